import json

import pandas as pd
import pytest

from benchmarks import learning_curve
from benchmarks.hybrid_ensembles import CNN_EPOCHS, MEMBERS
from benchmarks.learning_curve import ALL, LATE_FUSION, main, run_of, table
from vlsm_helpers.experiments.runs import train_member


@pytest.fixture
def runs(toy, monkeypatch, own_runs):
    """CNNs of three widths in place of the members; "all" images are the twelve there are."""
    widths = dict(zip(MEMBERS.values(), (1 / 32, 1 / 16, 1 / 8), strict=True))
    asked = []

    def small(member, dataset, **options):
        asked.append((member, options["limit"], options["epochs"]))
        options |= {"size": 32, "width": widths[member], "epochs": 2, "batch_size": 4}
        return train_member("unet_d", dataset, **options)

    monkeypatch.setattr(learning_curve, "ALL", 12)
    monkeypatch.setattr(learning_curve, "train_member", small)
    monkeypatch.setattr(learning_curve, "draw_of", lambda dataset, seed: dataset)
    monkeypatch.setattr(
        learning_curve,
        "trained",
        lambda dataset, label, seed: small(MEMBERS[label], dataset, run=label, seed=seed, limit=ALL, epochs=None),
    )
    return asked


def test_shares_are_beginnings_of_the_same_images(runs):
    few, more = (run_of("toy", "UNet-D", 0, images) for images in (4, 8))
    counts = [json.loads((run / "settings.json").read_text())["train_images"] for run in (few, more)]
    assert counts == [4, 8]
    assert runs == [("unet_d", 4, CNN_EPOCHS), ("unet_d", 8, CNN_EPOCHS)]


def test_readers_keep_the_epochs_of_their_recipe(runs):
    run_of("toy", "CLIPSeg", 0, 4)
    assert runs == [("clipseg", 4, None)]


def test_every_model_is_scored_at_every_share(runs, tmp_path):
    main(["toy", "--shares", "0.5", "1", "--seeds", "0", "--out", str(tmp_path / "curve.csv")])
    kept = pd.read_csv(tmp_path / "curve.csv")
    assert set(kept["model"]) == {*MEMBERS, LATE_FUSION}
    assert kept.groupby(["images", "model"]).size().to_dict() == {
        (images, model): 5 for images in (6, 12) for model in (*MEMBERS, LATE_FUSION)
    }
    head = (tmp_path / "curve.md").read_text().splitlines()[0]
    assert head == "| dataset | model | 6 images | 12 images |"


def test_what_was_not_run_is_said():
    rows = pd.DataFrame({"id": ["a", "b"], "dice": 0.5, "dataset": "x", "model": "UNet-D", "images": 20, "seed": 0})
    other = rows.assign(model="CLIPSeg", images=200)
    lines = table(pd.concat([rows, other])).splitlines()
    assert lines[2] == "| x | UNet-D | 50.0 (50.0 to 50.0) | not run |"
