"""What the benchmarks' tests share."""

import pytest

from benchmarks.hybrid_ensembles import MEMBERS
from vlsm_helpers.experiments.runs import train_member

WIDTHS = dict(zip(MEMBERS, (1 / 32, 1 / 16, 1 / 8), strict=True))


@pytest.fixture(scope="module")
def runs_of_module(tmp_path_factory):
    """The runs of a module's tests: each is trained once, on images that are the same in every test."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture
def narrow_cnns(toy, monkeypatch, runs_of_module):
    """Puts CNNs of three widths, trained on the toy dataset, in the place of a benchmark's members."""
    monkeypatch.setenv("VLSM_RUNS", str(runs_of_module))

    def trained(dataset, label, seed):
        options = {"size": 32, "width": WIDTHS[label], "epochs": 3, "batch_size": 4}
        return train_member("unet_d", dataset, run=f"{label}-{seed}", seed=seed, **options)

    def put(benchmark):
        monkeypatch.setattr(benchmark, "trained", trained)
        monkeypatch.setattr(benchmark, "draw_of", lambda dataset, seed: dataset)
        return trained

    return put
