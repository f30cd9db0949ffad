import json

import pandas as pd
import pytest

from tests.conftest import write_toy
from vlsm_helpers.errors import SettingsError
from vlsm_helpers.runs import evaluate_run, train_member

OPTIONS = {"size": 32, "width": 1 / 32, "epochs": 2, "batch_size": 4}


@pytest.fixture(autouse=True)
def own_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("VLSM_RUNS", str(tmp_path / "runs"))


def test_a_run_is_trained_scored_and_kept(toy):
    run = train_member("unet_d", "toy", **OPTIONS)
    summary = evaluate_run(run)
    assert summary.set_index("metric").loc["dice", "n"] == 5
    assert run.name == "toy-unet_d-ours-32px-seed0"
    table = pd.read_csv(run / "per_image.csv")
    assert len(table) == 5
    assert set(table["split"]) == {"test"}
    assert json.loads((run / "settings.json").read_text())["recipe"]["epochs"] == 2


def test_another_split_or_dataset_is_added_to_the_table_once(toy):
    write_toy(toy.parent, "other", {"test": 3}, seed=9)
    run = train_member("unet_d", "toy", run="named", **OPTIONS)
    evaluate_run(run)
    summary = evaluate_run(run, "test", "other")
    assert set(summary["dataset"]) == {"other"}
    assert summary.set_index("metric").loc["dice", "n"] == 3
    evaluate_run(run, "val")
    evaluate_run(run, "val")
    assert pd.read_csv(run / "per_image.csv").groupby(["dataset", "split"]).size().to_dict() == {
        ("toy", "test"): 5,
        ("toy", "val"): 4,
        ("other", "test"): 3,
    }


def test_a_limit_takes_the_first_images(toy):
    run = train_member("unet_d", "toy", limit=6, **OPTIONS)
    assert json.loads((run / "settings.json").read_text())["train_images"] == 6


def test_an_unknown_recipe_is_refused_with_the_known_ones(toy):
    with pytest.raises(SettingsError, match="ours, published"):
        train_member("unet_d", "toy", recipe="theirs")
