import numpy as np
import pandas as pd
import pytest

from benchmarks import domain_shift
from benchmarks.domain_shift import LATE_FUSION, main, measure, table
from tests.helpers import write_toy
from vlsm_helpers.experiments.runs import PER_IMAGE, evaluate_run


@pytest.fixture
def runs(toy, narrow_cnns):
    """With another dataset to be scored on."""
    write_toy(toy.parent, "abroad", {"train": 2, "val": 2, "test": 3}, seed=9)
    return narrow_cnns(domain_shift)


def test_a_member_is_scored_abroad_as_a_run_is(runs):
    rows = measure("toy", "abroad", "UNet-D", 1)
    run = runs("toy", "UNet-D", 1)
    evaluate_run(run, "test", "abroad")
    expected = pd.read_csv(run / PER_IMAGE).query("dataset == 'abroad'").set_index("id")["dice"]
    np.testing.assert_allclose(rows.set_index("id")["dice"], expected, atol=1e-4)
    assert set(rows["trained_on"]) == {"toy"}
    assert len(rows) == 3


def test_late_fusion_takes_its_weights_from_home(runs, monkeypatch):
    seen, fit = [], domain_shift.fit
    monkeypatch.setattr(domain_shift, "fit", lambda rules, store: seen.append(store) or fit(rules, store))
    rows = measure("toy", "abroad", LATE_FUSION, 0)
    assert [(store.dataset, store.split) for store in seen] == [("toy", "val")]
    assert len(rows) == 3
    assert rows["dice"].between(0, 1).all()


def test_every_pair_is_measured_at_home_and_there(runs, tmp_path):
    main(["toy:abroad", "--models", "UNet-D", "--seeds", "0", "1", "--out", str(tmp_path / "shift.csv")])
    kept = pd.read_csv(tmp_path / "shift.csv")
    assert kept.groupby(["dataset", "seed"]).size().to_dict() == {
        ("toy", 0): 5,
        ("toy", 1): 5,
        ("abroad", 0): 3,
        ("abroad", 1): 3,
    }
    lines = (tmp_path / "shift.md").read_text().splitlines()
    assert [line.split(" | ")[1] for line in lines[2:]] == ["toy", "abroad"]
    assert all(line.endswith("| 2 |") for line in lines[2:])


def test_the_table_is_in_percent():
    rows = pd.DataFrame({"id": ["a", "b"], "dice": [0.5, 0.5]})
    lines = table(rows.assign(trained_on="x", dataset="y", model="UNet-D", seed=0)).splitlines()
    assert lines[-1] == "| x | y | UNet-D | 50.0 (50.0 to 50.0) | 1 |"
