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
    best_rate,
    measure,
    protocol,
    table,
)
from tests.helpers import write_toy
from vlsm_helpers.training.recipes import FULL


@pytest.fixture
def toy(tmp_path, monkeypatch):
    monkeypatch.setenv("VLSM_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("VLSM_RUNS", str(tmp_path / "runs"))
    write_toy(tmp_path / "data", entries={"train": 9, "val": 2, "test": 3})


def test_all_members_have_one_budget_schedule_and_criterion():
    recipes = [protocol(one, RATES[0]) for one in ENTRANTS.values()]
    shared = ("learning_rate", "schedule", "epochs", "patience", "monitor", "augment", "weight_decay", "clip")
    assert {tuple(getattr(one, name) for name in shared) for one in recipes} == {
        (RATES[0], "constant", EPOCHS, PATIENCE, "val_dice", True, recipes[0].weight_decay, 1.0)
    }
    assert FULL.patience > PATIENCE  # a recipe whose own budget differs


def test_a_training_is_measured_once_and_found_again(toy, monkeypatch):
    rows = measure("toy", "all", "UNet-D", 0, 1e-3, epochs=2)
    assert rows["id"].tolist() == ["test_0", "test_1", "test_2"]
    one = rows.iloc[0]
    assert (one.epochs, one.steps) == (2, 2 * 2)  # nine images, eight per step
    assert one.best_epoch in (1, 2)
    assert one.minutes > 0
    assert one.parameters > 1e5
    pd.testing.assert_frame_equal(measure("toy", "all", "UNet-D", 0, 1e-3, epochs=2), rows)


def trainings(model, by_rate, seed=0, best_epoch=20):
    dataset, images = CHOOSE
    return [
        {"dataset": dataset, "images": images, "model": model, "seed": seed, "rate": rate, "id": name, "dice": dice}
        | {"val_dice": val, "epochs": 35, "best_epoch": best_epoch, "steps": 875, "minutes": 4.0, "parameters": 2e5}
        for rate, val in by_rate.items()
        for name, dice in (("a", val), ("b", val - 0.2))
    ]


def test_the_rate_is_chosen_on_validation_once_all_were_tried():
    low, middle, high = RATES
    some = pd.DataFrame(trainings("CRIS", {low: 0.5, middle: 0.9}))
    assert best_rate(some, "CRIS") is None
    assert len(table(some).splitlines()) == 2
    whole = pd.DataFrame(trainings("CRIS", {low: 0.5, middle: 0.9, high: 0.7}))
    assert best_rate(whole, "CRIS") == middle


def test_the_table_shows_the_chosen_rate_all_seeds_and_what_was_cut_off():
    low, middle, high = RATES
    rows = trainings("CRIS", {low: 0.5, middle: 0.9, high: 0.7}) + trainings("CRIS", {middle: 0.7}, 1, EPOCHS - 1)
    line = table(pd.DataFrame(rows)).splitlines()[-1]
    assert "| 70.0 (" in line  # the mean of 90, 70, 70, 50
    assert "| 2 | 0.001 | 20 of 35, 119 of 35 (cut off) |" in line


def test_by_default_every_kind_of_member_is_there():
    assert {ENTRANTS[name].member for name in DEFAULT} == {
        "clipseg",
        "biomedclipseg",
        "unet_d",
        "unet_imagenet",
        "cris",
    }
    assert set(real_images.IMAGES.values()) == {200, None}
