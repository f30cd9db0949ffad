import os
import random
import threading
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import torch
from huggingface_hub import constants

from vlsm_helpers import settings
from vlsm_helpers.errors import SettingsError
from vlsm_helpers.settings.profiles import FULL_WITHOUT_GPU, PROFILES
from vlsm_helpers.settings.published import BIOMEDCLIP, CLIPSEG

VARIABLES = (
    "VLSM_PROFILE",
    "VLSM_DATASET",
    "VLSM_SEED",
    "VLSM_DATA",
    "VLSM_CACHE",
    "VLSM_RUNS",
    "VLSM_WEIGHTS",
    "VLSM_EPOCHS",
    "ACCELERATE_MIXED_PRECISION",
)


@pytest.fixture(autouse=True)
def bare(monkeypatch):
    """Nothing set in the environment, no GPU."""
    for variable in VARIABLES:
        monkeypatch.setenv(variable, "")
    monkeypatch.setattr(settings, "device", lambda: "cpu")


@pytest.fixture
def hub(monkeypatch):
    """A hub whose answer a test sets; it keeps what was asked."""

    class Hub:
        status, requests = 200, []

        def head(self, address, **options):
            self.requests.append((address, options))
            if isinstance(self.status, Exception):
                raise self.status
            return type("Response", (), {"status_code": self.status})

    hub = Hub()
    hub.requests = []
    monkeypatch.setattr(huggingface_hub, "get_session", lambda: hub)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    return hub


def test_defaults_without_any_wish(capsys):
    chosen = settings.start()
    assert (chosen.profile.name, chosen.reason) == ("tiny", "no GPU found")
    assert (chosen.dataset, chosen.seed) == ("phantom_endoscopy", 0)
    printed = capsys.readouterr().out
    for part in ("tiny: no GPU found; 128 px", "phantom_endoscopy, seed 0", "cpu", f"torch {version('torch')}"):
        assert part in printed


def test_environment_wins_over_defaults_and_parameters_over_both(monkeypatch):
    monkeypatch.setenv("VLSM_PROFILE", "full")
    monkeypatch.setenv("VLSM_DATASET", "busi")
    monkeypatch.setenv("VLSM_SEED", "7")
    chosen = settings.start()
    assert (chosen.profile.name, chosen.dataset, chosen.seed) == ("full", "busi", 7)
    assert "VLSM_PROFILE" in chosen.reason
    chosen = settings.start("tiny", "isic", 0)
    assert (chosen.profile.name, chosen.dataset, chosen.seed) == ("tiny", "isic", 0)


def test_start_seeds_every_generator():
    def draws():
        return random.random(), np.random.rand(), torch.rand(1).item()  # noqa: NPY002

    settings.start(seed=3)
    first = draws()
    settings.start(seed=3)
    assert draws() == first
    settings.start(seed=4)
    assert draws() != first


def test_an_unknown_profile_names_the_known_ones():
    with pytest.raises(SettingsError, match=r"'huge'[\s\S]*tiny, full, auto"):
        settings.start("huge")


def test_the_epochs_of_a_notebooks_training_may_be_others(monkeypatch):
    monkeypatch.setenv("VLSM_EPOCHS", "6")
    profile, reason = settings.choose_profile("full")
    assert profile == replace(PROFILES["full"], epochs=6)
    assert reason == "set by PROFILE or VLSM_PROFILE; epochs as VLSM_EPOCHS says, 6"


def test_full_without_a_gpu_keeps_sizes_and_weights_and_trains_less(monkeypatch):
    laptop = settings.start("full")
    assert laptop.profile == replace(PROFILES["full"], **FULL_WITHOUT_GPU)
    assert "no GPU" in laptop.reason
    monkeypatch.setenv("VLSM_EPOCHS", "7")
    assert settings.start("full").profile.epochs == 7
    monkeypatch.setenv("VLSM_EPOCHS", "")
    monkeypatch.setattr(settings, "device", lambda: "cuda")
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 0))
    assert settings.start("full").profile == PROFILES["full"]


@pytest.mark.parametrize("epochs", ["0", "-1", "2.5", "many"])
def test_epochs_that_are_none_are_refused(monkeypatch, epochs):
    monkeypatch.setenv("VLSM_EPOCHS", epochs)
    with pytest.raises(SettingsError, match=f"VLSM_EPOCHS is '{epochs}'"):
        settings.start("tiny")


def test_the_profile_of_a_notebook_holds_for_all_that_it_calls(monkeypatch):
    monkeypatch.setenv("VLSM_PROFILE", "tiny")
    settings.start("full")
    assert settings.choose_profile()[0].name == "full"


def test_a_seed_that_is_no_integer(monkeypatch):
    monkeypatch.setenv("VLSM_SEED", "seven")
    with pytest.raises(SettingsError, match=r"'seven' is no integer[\s\S]*VLSM_SEED"):
        settings.start()


@pytest.mark.parametrize(
    ("at_hand", "answers", "name", "reason"),
    [
        (True, False, "full", "on this machine"),
        (False, True, "full", "1387 MB of weights will be downloaded"),
        (False, False, "tiny", "does not answer"),
    ],
)
def test_auto_with_a_gpu(monkeypatch, at_hand, answers, name, reason):
    monkeypatch.setattr(settings, "device", lambda: "cuda")
    monkeypatch.setattr(settings, "weights_at_hand", lambda hub_id: at_hand)
    monkeypatch.setattr(settings, "hub_reachable", lambda: answers)
    chosen = settings.auto_profile()
    assert chosen[0] == name
    assert reason in chosen[1]


@pytest.mark.parametrize(
    ("kind", "tensors"), [(CLIPSEG, "model.safetensors"), (BIOMEDCLIP, "open_clip_pytorch_model.bin")]
)
def test_weights_are_at_hand_once_all_files_are_in_the_folder_or_the_cache(monkeypatch, tmp_path, kind, tensors):
    cached = tmp_path / "cache" / f"models--{kind.hub_id.replace('/', '--')}"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("0" * 40)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VLSM_WEIGHTS", str(tmp_path / "local"))
    for folder in (tmp_path / "local" / kind.name, cached / "snapshots" / ("0" * 40)):
        folder.mkdir(parents=True)
        for name in (tensors, *(group[0] for group in kind.required)):
            assert not settings.weights_at_hand(kind.hub_id)
            (folder / name).touch()
        assert settings.weights_at_hand(kind.hub_id)
        monkeypatch.setenv("VLSM_WEIGHTS", "")


@pytest.mark.parametrize(
    ("status", "reachable"), [(200, True), (404, True), (503, False), (OSError("no route to host"), False)]
)
def test_the_hub_is_reachable_when_it_answers(hub, status, reachable):
    hub.status = status
    assert settings.hub_reachable() is reachable
    assert hub.requests == [(constants.ENDPOINT, {"timeout": 3.0, "follow_redirects": True})]


def test_a_silent_hub_is_given_up_in_time(hub):
    released = threading.Event()
    hub.head = lambda address, **options: released.wait(20)  # a look-up that no client's timeout bounds
    begin = time.monotonic()
    assert settings.hub_reachable(seconds=0.1) is False
    assert time.monotonic() - begin < 5
    released.set()


def test_offline_no_request_is_made(hub, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert settings.hub_reachable() is False
    assert hub.requests == []


@pytest.mark.parametrize(
    ("variable", "folder"),
    [
        ("VLSM_DATA", settings.data_folder),
        ("VLSM_CACHE", settings.cache_folder),
        ("VLSM_RUNS", settings.runs_folder),
        ("VLSM_WEIGHTS", settings.weights_folder),
    ],
)
def test_reading_a_relative_folder_changes_nothing(monkeypatch, tmp_path, variable, folder):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(variable, "../shared/things")
    assert folder().is_absolute()
    assert folder().resolve() == (tmp_path.parent / "shared" / "things").resolve()
    assert os.environ[variable] == "../shared/things"


def test_a_notebooks_start_makes_folders_absolute_for_what_it_starts(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    variables = ("VLSM_DATA", "VLSM_CACHE", "VLSM_RUNS", "VLSM_WEIGHTS")
    for variable in variables:
        monkeypatch.setenv(variable, f"my/{variable}")
    settings.start("tiny")
    assert [os.environ[variable] for variable in variables] == [str(tmp_path / "my" / name) for name in variables]


def test_no_weights_folder_unless_it_is_named():
    assert settings.weights_folder() is None


def test_a_home_folder_is_expanded(monkeypatch):
    monkeypatch.setenv("VLSM_DATA", "~/images")
    assert settings.data_folder() == Path.home() / "images"


def test_runs_lie_in_the_checkout_from_wherever_in_it(monkeypatch, tmp_path):
    (tmp_path / "vlsm_helpers").mkdir()
    (tmp_path / "notebooks" / "solutions").mkdir(parents=True)
    for place in (".", "notebooks", "notebooks/solutions"):
        monkeypatch.chdir(tmp_path / place)
        assert settings.runs_folder() == tmp_path / "runs"


def test_runs_lie_in_the_working_folder_outside_a_checkout(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert settings.runs_folder() == tmp_path / "runs"
    assert settings.data_folder() == settings.cache_folder() / "data"


def test_a_folder_is_made_and_left_clean(tmp_path):
    assert settings.writable(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SettingsError, match=r"cannot be written to[\s\S]*file/runs[\s\S]*VLSM_RUNS"):
        settings.writable(tmp_path / "file" / "runs")


@pytest.mark.parametrize(("threads", "words"), [(1, "1 thread"), (2, "2 threads")])
def test_hardware_and_versions_are_for_people(monkeypatch, threads, words):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert settings.hardware().endswith(f", {words}")
    assert f"torch {version('torch')}" in settings.versions()
