import pandas as pd
import pytest

from benchmarks import prompts_and_pools
from tests.helpers import write_toy
from vlsm_helpers.experiments.members import LATE_FUSION
from vlsm_helpers.experiments.plan import Plan


@pytest.fixture
def plans(toy, tmp_path, monkeypatch, own_runs):
    """Two small datasets, alone and pooled, and two prompts, with a network that trains in a moment."""
    monkeypatch.setenv("VLSM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VLSM_PROFILE", "tiny")
    write_toy(toy.parent, "other", {"train": 4, "val": 2, "test": 3}, seed=9)
    budget = {"seeds": (0, 1), "epochs": 1, "limit": 4, "batch_size": 4}
    small = (
        Plan(("toy+other", "toy"), ("unet_d",), **budget),
        Plan(("toy",), ("clipseg",), prompts=("p0", "p2"), **budget),
    )
    monkeypatch.setattr(prompts_and_pools, "PLANS", small)
    return small


def test_shares_together_measure_every_cell(plans, tmp_path):
    for shard in ("1/2", "2/2"):
        prompts_and_pools.main(["--shard", shard, "--out", str(tmp_path / "rows.csv")])
    rows = pd.read_csv(tmp_path / "rows.csv")
    counts = rows.groupby(["trained_on", "dataset", "prompt", "model", "seed"]).size()
    alone = {
        (name, "toy", prompt, model): 5
        for name, prompt, model in (
            ("toy+other", "p1", "unet_d"),
            ("toy", "p1", "unet_d"),
            ("toy", "p0", "clipseg"),
            ("toy", "p2", "clipseg"),
        )
    }
    expected = alone | {("toy+other", "other", "p1", "unet_d"): 3}
    assert counts.to_dict() == {(*key, seed): count for key, count in expected.items() for seed in (0, 1)}
    lines = (tmp_path / "rows.md").read_text().splitlines()
    assert len(lines) == 2 + len(expected)
    assert all(line.endswith("| 2 |") for line in lines[2:])


def test_what_is_measured_is_what_the_text_says():
    pooled, prompts, rival = prompts_and_pools.PLANS
    assert rival.members == ("smp_unet",)
    assert LATE_FUSION in pooled.members
    assert pooled.datasets[0] == "+".join(pooled.datasets[1:3])
    assert prompts.prompts == ("p0", "p6")
    assert {plan.epochs for plan in prompts_and_pools.PLANS} == {30}
