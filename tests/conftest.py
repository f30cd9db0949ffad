"""What all tests share: folders of their own, and a toy dataset that a network learns in seconds."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings as hypothesis_settings

# Wall-clock bounds belong to benchmarks: on a busy machine a deadline fails what is right.
hypothesis_settings.register_profile("course", deadline=None)
hypothesis_settings.load_profile("course")

# Set before anything is imported: kernels and child processes that a test starts inherit them.
os.environ["VLSM_PROFILE"] = "tiny"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"


def pytest_configure(config):
    """Caches and runs of a test session go to its own folder, never to the user's; workers of `-n` share the cache.

    Not in a fixture: a worker may begin with a notebook, which nbmake runs without our fixtures.
    """
    worker = getattr(config, "workerinput", None)
    if worker is None:
        config.session_folder = tempfile.mkdtemp(prefix="vlsm-tests-")
        os.environ["VLSM_CACHE"] = str(Path(config.session_folder, "cache"))
    root, name = Path(os.environ["VLSM_CACHE"]).parent, worker["workerid"] if worker else "runs"
    os.environ["VLSM_RUNS"] = str(root / name)


def pytest_unconfigure(config):
    """Only the process that made the session's folder removes it."""
    if folder := getattr(config, "session_folder", None):
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(autouse=True)
def the_same_profile():
    """What a test decides on the profile (`settings.start` tells the environment) ends with it."""
    yield
    os.environ["VLSM_PROFILE"] = "tiny"


@pytest.fixture
def own_data(tmp_path, monkeypatch):
    """The data folder of this test alone."""
    monkeypatch.setenv("VLSM_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def own_runs(tmp_path, monkeypatch):
    """The runs folder of this test alone."""
    monkeypatch.setenv("VLSM_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """The folder of a toy dataset that `load_split("toy", ...)` finds."""
    from tests.helpers import write_toy  # imports PyTorch: not before the environment above is set

    monkeypatch.setenv("VLSM_DATA", str(tmp_path / "data"))
    return write_toy(tmp_path / "data")


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory):
    """A folder for VLSM_WEIGHTS with tiny random CLIPSeg, BiomedCLIP and CLIP checkpoints; tests copy what they change."""
    import torch

    from tools.random_checkpoints import write_biomedclip, write_clip_rn50, write_clipseg

    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    write_clipseg(folder / "clipseg", tiny=True)
    write_biomedclip(folder / "biomedclip", tiny=True)
    write_clip_rn50(folder / "clip_rn50", tiny=True)
    return folder


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """The folder of the course's static site."""
    from tools import site

    folder = tmp_path_factory.mktemp("site")
    assert site.build(folder) == 0
    return folder
