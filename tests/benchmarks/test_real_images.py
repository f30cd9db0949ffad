import pandas as pd
import pytest

from benchmarks import real_images
from benchmarks.real_images import (
    CHOOSE,
    DEFAULT,
    ENTRANTS,
    EPOCHS,
    PATIENCE,
    RATES,
    fine_tune,
    measure,
    protocol,
    run_folder,
    screened,
    table,
)
from tests.helpers import write_toy
from vlsm_helpers.experiments.reference import MEASURED, measured
from vlsm_helpers.io.checkpoints import load_checkpoint
from vlsm_helpers.training.recipes import FULL
from vlsm_helpers.training.run_folder import BEST, METRICS


@pytest.fixture
def toy(tmp_path, monkeypatch):
    monkeypatch.setenv("VLSM_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("VLSM_RUNS", str(tmp_path / "runs"))
    write_toy(tmp_path / "data", entries={"train": 9, "val": 2, "test": 3})


def test_all_members_have_one_budget_schedule_and_criterion():
    recipes = [protocol(one, RATES[0], EPOCHS) for one in ENTRANTS.values()]
    shared = ("learning_rate", "schedule", "epochs", "patience", "monitor", "augment", "weight_decay", "clip")
    assert {tuple(getattr(one, name) for name in shared) for one in recipes} == {
        (RATES[0], "constant", EPOCHS, PATIENCE, "val_dice", True, recipes[0].weight_decay, 1.0)
    }
    assert FULL.patience > PATIENCE  # a recipe whose own budget differs


def test_a_training_is_measured_once_and_found_again(toy):
    tried = {3e-4: 0.1, 1e-3: 0.3, 3e-3: 0.2}
    rows = measure("toy", "all", "UNet-D", 0, tried, epochs=2)
    assert rows["id"].tolist() == ["test_0", "test_1", "test_2"]
    one = rows.iloc[0]
    assert one.rate == 1e-3  # the best of those tried
    assert [one[f"screened_{rate:g}"] for rate in tried] == list(tried.values())
    assert (one.epochs, one.fine_epochs, one.steps) == (2, 2, 2 * (2 + 2))  # nine images, eight per step
    assert one.best_epoch in (1, 2)
    assert one.minutes > 0
    assert one.parameters > 1e5
    pd.testing.assert_frame_equal(measure("toy", "all", "UNet-D", 0, tried, epochs=2), rows)


def test_the_second_part_starts_from_the_best_epoch_at_a_tenth_of_the_rate(toy):
    run = fine_tune("toy", "all", "UNet-D", 0, 1e-3, epochs=1)
    start = run_folder("toy", "all", "UNet-D", 0, 1e-3, 1)
    assert pd.read_csv(run / METRICS)["learning_rate"].tolist() == [1e-4]
    first, second = (load_checkpoint(one / BEST)[0] for one in (start, run))
    weights = [name for name in first if name.endswith("weight")]
    moved = max((first[name] - second[name]).abs().max() for name in weights)
    assert 0 < moved < 1e-3  # two steps of Adam, each at most about the rate


def test_each_rate_is_tried_for_a_few_epochs_apart_from_the_training_itself(toy, monkeypatch):
    monkeypatch.setattr(real_images, "CHOOSE", ("toy", "all"))
    tried = screened("UNet-D", epochs=1)
    assert list(tried) == list(RATES)
    for rate, found in tried.items():
        run = run_folder("toy", "all", "UNet-D", 0, rate, 1)
        history = pd.read_csv(run / METRICS)
        assert history["val_dice"].tolist() == [found]
        assert history["learning_rate"].tolist() == [rate]
        assert run != run_folder("toy", "all", "UNet-D", 0, rate)


def trainings(model, seeds=(0,), best_epochs=(20,)):
    dataset, images = CHOOSE
    return [
        {"dataset": dataset, "images": images, "model": model, "seed": seed, "rate": 1e-3, "id": name, "dice": dice}
        | {
            "foreground": 0.1,
            "val_dice": 0.8,
            "epochs": best + 10,
            "best_epoch": best,
            "fine_epochs": 12,
            "best_fine_epoch": 2,
        }
        | {"steps": 875, "minutes": 4.0, "parameters": 2e5}
        for seed, best in zip(seeds, best_epochs, strict=True)
        for name, dice in (("a", 0.9 - 0.2 * seed), ("b", 0.7 - 0.2 * seed))
    ]


def test_the_table_shows_the_rate_all_seeds_and_what_was_cut_off():
    line = table(pd.DataFrame(trainings("CRIS", (0, 1), (20, EPOCHS - 1)))).splitlines()[-1]
    assert "| 70.0 (" in line  # the mean of 90, 70, 70, 50
    assert f"| 2 | 0.001 | 20 of 30, {EPOCHS - 1} of {EPOCHS + 9} (cut off) | 2 of 12, 2 of 12 |" in line


def test_images_without_a_lesion_are_counted_and_left_out():
    """Dice of an empty ground truth is 1 for an empty prediction: such images can carry a mean."""
    rows = pd.DataFrame(trainings("CRIS")).assign(dataset="busi")
    rows.loc[rows["id"] == "a", "foreground"] = 0  # Dice 0.9; "b" has a lesion and 0.7
    all_, lesions = table(rows).splitlines()[-2:]
    assert all_.startswith("| busi | first 200 | CRIS | 80.0 (")
    assert lesions.startswith("| busi, lesions only | first 200 | CRIS | 70.0 (")
    assert len(table(pd.DataFrame(trainings("CRIS"))).splitlines()) == 3


def test_by_default_every_kind_of_member_is_there():
    assert {ENTRANTS[name].member for name in DEFAULT} == {
        "clipseg",
        "biomedclipseg",
        "unet_d",
        "unet_imagenet",
        "cris",
    }
    assert set(real_images.IMAGES.values()) == {200, None}


def test_the_committed_table_is_that_of_the_committed_rows():
    rows = measured("real_images")
    assert (MEASURED / "real_images.md").read_text(encoding="utf-8") == table(rows) + "\n"
    assert rows.groupby(["dataset", "images", "model"])["seed"].nunique().min() == 3
