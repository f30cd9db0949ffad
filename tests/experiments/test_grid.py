import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from filelock import FileLock
from typer.testing import CliRunner

from tests.helpers import write_toy
from vlsm_helpers import settings
from vlsm_helpers.cli import app
from vlsm_helpers.errors import TrainingError
from vlsm_helpers.experiments import grid, table
from vlsm_helpers.experiments.grid import run
from vlsm_helpers.experiments.members import FUSED, LATE_FUSION
from vlsm_helpers.experiments.plan import LOCK, Cell, Plan

PROJECT = Path(__file__).parents[2]


pytestmark = pytest.mark.usefixtures("own_runs")


def plan(**changes):
    return Plan(**({"datasets": ("toy",), "members": ("unet_d",), "seeds": (0, 1), "epochs": 1} | changes))


def told(plan, cells=None):
    """What `run` tells of what became of cells, and what failed."""
    lines = []
    failed = run(plan, plan.cells if cells is None else cells, lines.append)
    return [line for line in lines if not line.endswith(": begins")], failed


def test_a_cell_is_told_of_before_it_is_trained(toy):
    lines = []
    wanted = plan(seeds=(0,))
    for _ in range(2):
        run(wanted, wanted.cells, lines.append)
    name = f"[1/1] {wanted.cells[0].name}"
    assert lines == [f"{name}: begins", f"{name}: done", f"{name}: done before"]


# Filling cells


def test_a_cell_is_trained_scored_and_predicted_once(toy):
    one = plan(seeds=(0,))
    lines, failed = told(one)
    assert not failed
    assert lines == ["[1/1] toy/unet_d-p1-seed0: done"]
    folder = one.cells[0].folder
    assert {"test", "val"} == {path.name.removeprefix("toy-") for path in (folder / "logits").iterdir()}
    facts = json.loads((folder / "done.json").read_text())
    assert facts["hardware"] == settings.hardware()
    before = (folder / "metrics.csv").stat().st_mtime_ns
    assert told(one)[0] == ["[1/1] toy/unet_d-p1-seed0: done before"]
    assert (folder / "metrics.csv").stat().st_mtime_ns == before


@pytest.mark.parametrize("changes", [{"epochs": 2}, {"limit": 6}, {"batch_size": 2}])
def test_a_cell_that_was_done_with_other_budgets_is_refused_not_passed_over(toy, changes):
    told(plan(seeds=(0,)))
    lines, failed = told(plan(seeds=(0,), **changes))
    assert "It was trained with other settings" in lines[0]
    assert next(iter(changes)) in lines[0]
    assert len(failed) == 1


def test_a_cell_of_other_images_under_the_same_names_is_refused(toy):
    told(plan(seeds=(0,)))
    masks = sorted(toy.glob("masks/train_*"))
    masks[0].write_bytes(masks[1].read_bytes())
    lines, _ = told(plan(seeds=(0,)))
    assert "data [" in lines[0]


def test_a_test_set_that_is_asked_for_later_is_scored_without_training(toy, monkeypatch):
    told(plan(seeds=(0,)))
    write_toy(toy.parent, "other", {"train": 1, "val": 1, "test": 3}, seed=9)
    monkeypatch.setattr("vlsm_helpers.training.loop._train_epoch", lambda *_: pytest.fail("it trained"))
    wanted = plan(seeds=(0,), also_test=("other",))
    assert told(wanted)[0] == ["[1/1] toy/unet_d-p1-seed0: done"]
    assert wanted.cells[0].read_done()["tests"] == ["toy", "other"]
    assert table.scores(wanted).groupby("dataset").size().to_dict() == {"toy": 5, "other": 3}


def test_a_cell_that_fails_does_not_stop_the_others(toy, monkeypatch):
    real = grid.train_member

    def fails_on_seed_0(*arguments, seed, **options):
        if seed == 0:
            raise TrainingError("The loss became nan.", hint="lower the learning rate.")
        return real(*arguments, seed=seed, **options)

    monkeypatch.setattr(grid, "train_member", fails_on_seed_0)
    lines, failed = told(plan())
    assert "failed\nThe loss became nan." in lines[0]
    assert lines[1].endswith(": done")
    assert [cell.seed for cell in failed] == [0]
    monkeypatch.undo()
    assert not (plan().cells[0].folder / "done.json").exists()


def test_a_memory_that_is_too_small_fails_the_cell_alone(toy, monkeypatch):
    def out_of_memory(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(grid, "train_member", out_of_memory)
    lines, failed = told(plan())
    assert len(failed) == 2
    assert "too little memory (CUDA out of memory)" in lines[0]
    assert all(error.__traceback__ is None and error.__context__ is None for error in failed.values())


def test_what_is_not_prepared_is_said_before_anything_is_trained(toy, monkeypatch):
    monkeypatch.setattr(grid, "train_member", lambda *_, **__: pytest.fail("it trained"))
    lines, failed = told(plan(seeds=(0,), also_test=("kvasir_polyp",)))
    assert "Kvasir-SEG is not prepared" in lines[0]
    assert len(failed) == 1


def test_a_cell_that_another_process_is_at_is_left_alone(toy):
    one = plan(seeds=(0,))
    one.cells[0].folder.mkdir(parents=True)
    with FileLock(one.cells[0].folder / LOCK):
        lines, failed = told(one)
    assert lines == ["[1/1] toy/unet_d-p1-seed0: another process is running it"]
    assert not failed


def test_pooled_training_is_scored_on_each_part(toy):
    write_toy(toy.parent, "other", {"train": 8, "val": 3, "test": 3}, seed=9)
    pooled = plan(datasets=("toy+other",), seeds=(0,), limit=6)
    lines, failed = told(pooled)
    assert not failed, lines
    facts = json.loads((pooled.cells[0].folder / "settings.json").read_text())
    assert facts["dataset"] == ["other", "toy"]
    assert facts["train_images"] == 12
    counted = table.scores(pooled).groupby("dataset").size().to_dict()
    assert counted == {"toy": 5, "other": 3}


# Late fusion


@pytest.fixture
def members_done(toy):
    """A plan with late fusion whose members are done."""
    write_toy(toy.parent, "shifted", {"train": 1, "val": 1, "test": 3}, seed=9)
    wanted = plan(members=(*FUSED, LATE_FUSION), seeds=(0,), also_test=("shifted",))
    told(wanted, wanted.cells[:3])
    return wanted


def test_late_fusion_is_fit_on_validation_and_scored_on_every_test_set(members_done):
    cell = members_done.cells[3]
    assert members_done.is_done(cell)  # the run that did the last member saw to it
    weights = json.loads((cell.folder / "fusion.json").read_text())
    assert sum(weights["weights"].values()) == pytest.approx(1)
    assert weights["mean_of"] == "logits"
    scores = pd.read_csv(cell.folder / "fusion.csv")
    assert scores.groupby("dataset").size().to_dict() == {"toy": 5, "shifted": 3}
    assert set(scores["split"]) == {"test"}


def test_late_fusion_waits_for_its_members(toy):
    wanted = plan(members=(*FUSED, LATE_FUSION), seeds=(0,))
    lines, failed = told(wanted, wanted.cells[3:])
    assert lines == ["[1/1] toy/late_fusion-p1-seed0: waits for biomedclipseg, clipseg, unet_d"]
    assert not failed


def test_late_fusion_that_waited_is_filled_in_the_same_call_if_its_members_come(toy, monkeypatch):
    """The last member is finished by another process while this one waits."""
    wanted = plan(members=(*FUSED, LATE_FUSION), seeds=(0,))
    told(wanted, wanted.cells[:2])
    real = grid._fill

    def late(plan, cell, failed, *begin):
        answer = real(plan, cell, failed)
        if answer.startswith("waits"):
            real(plan, wanted.cells[2], failed)
        return answer

    monkeypatch.setattr(grid, "_fill", late)
    lines, _ = told(wanted, wanted.cells[3:])
    assert lines == ["[1/1] toy/late_fusion-p1-seed0: waits for unet_d", "toy/late_fusion-p1-seed0: done"]


# Killed and restarted


def reproduce(count):
    """The words of a command that trains UNet-D with so many seeds."""
    seeds = [word for seed in range(count) for word in ("--seed", str(seed))]
    return ["reproduce", "toy", "--member", "unet_d", *seeds, "--epochs", "6"]


def start(count, **options):
    command = [sys.executable, "-c", "from vlsm_helpers.cli import app; app()", *reproduce(count)]
    return subprocess.Popen(command, cwd=PROJECT, text=True, **options)


def here(count):
    """The same command in this process; what it printed."""
    return CliRunner().invoke(app, reproduce(count), catch_exceptions=False).stdout


def test_killed_twice_and_restarted_it_gives_the_table_of_an_uninterrupted_one(toy, tmp_path, monkeypatch):
    monkeypatch.setenv("VLSM_RUNS", str(tmp_path / "whole"))
    here(3)
    monkeypatch.setenv("VLSM_RUNS", str(tmp_path / "killed"))
    unbuffered = os.environ | {"PYTHONUNBUFFERED": "1"}
    folder, outputs = tmp_path / "killed" / "reproduce" / "toy", []
    for number in (0, 1):  # killed in the middle of the first training, then in the middle of the second
        with (tmp_path / f"output{number}").open("w") as output:
            child = start(3, env=unbuffered, stdout=output, stderr=subprocess.STDOUT)
            deadline = time.monotonic() + 300
            while not (folder / f"unet_d-p1-seed{number}" / "metrics.csv").exists():
                assert child.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.01)
            child.send_signal(signal.SIGKILL)
            child.wait()
        outputs.append((tmp_path / f"output{number}").read_text())
        assert not (folder / f"unet_d-p1-seed{number}" / "done.json").exists()
    outputs.append(here(3))
    tables = [(tmp_path / name / "reproduce" / "table.csv").read_text() for name in ("whole", "killed")]
    assert tables[0] == tables[1]
    finished = re.findall(r"(\S+): done$", "".join(outputs), re.MULTILINE)
    assert sorted(finished) == [Cell("toy", "unet_d", "p1", seed).name for seed in range(3)]


def test_two_processes_at_once_fill_every_cell_once(toy, tmp_path):
    child = start(4, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while not (tmp_path / "runs" / "reproduce" / "toy" / "unet_d-p1-seed0" / "metrics.csv").exists():
        assert child.poll() is None
        time.sleep(0.01)
    ours = here(4)
    theirs, told = child.communicate()
    assert child.returncode == 0, told
    assert ": done" in ours
    assert ": done" in theirs
    finished = re.findall(r"(\S+): done$", ours + theirs, re.MULTILINE)
    assert sorted(finished) == [Cell("toy", "unet_d", "p1", seed).name for seed in range(4)]
