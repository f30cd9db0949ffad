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
from vlsm_helpers.errors import SettingsError, TrainingError
from vlsm_helpers.experiments import grid, table
from vlsm_helpers.experiments.grid import FUSED, LATE_FUSION, LOCK, Cell, Plan, as_shard, paper_plan, run
from vlsm_helpers.settings.profiles import PROFILES

PROJECT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def own_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("VLSM_RUNS", str(tmp_path / "runs"))


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


# The plan


def test_cells_come_seed_by_seed_with_late_fusion_after_its_members():
    members = (LATE_FUSION, *FUSED)
    cells = Plan(("a", "b"), members=members, seeds=(0, 1)).cells
    assert [cell.name for cell in cells[:5]] == [
        "a/biomedclipseg-p1-seed0",
        "a/clipseg-p1-seed0",
        "a/unet_d-p1-seed0",
        "a/late_fusion-p1-seed0",
        "a/biomedclipseg-p1-seed1",
    ]
    assert len(cells) == 16
    assert [cell.member for cell in cells[3].joined] == list(FUSED)
    assert cells[0].joined == []


def test_late_fusion_of_other_members_has_a_folder_of_its_own():
    fused = ("clipseg", "unet_d")
    cells = Plan(("a",), members=(*fused, LATE_FUSION), seeds=(0,), fused=fused).cells
    assert cells[2].name == "a/late_fusion-of-clipseg-unet_d-p1-seed0"
    assert cells[2].joined == cells[:2] == [Cell("a", member, "p1", 0) for member in fused]
    with pytest.raises(SettingsError, match="smp_unet"):
        Plan(("a",), members=(*fused, LATE_FUSION), fused=(*fused, "smp_unet"))


def test_shards_hold_every_cell_once():
    whole = Plan(("a", "b", "c"), members=("unet_d", "clipseg"), prompts=("p0", "p1"))
    shards = [whole.shard(number, 5) for number in range(1, 6)]
    assert sorted(cell.name for shard in shards for cell in shard) == sorted(cell.name for cell in whole.cells)
    assert {len(shard) for shard in shards} == {7, 8}  # of 36


@pytest.mark.parametrize(("number", "shards"), [(0, 3), (4, 3)])
def test_a_shard_that_is_not_there_is_refused(number, shards):
    with pytest.raises(SettingsError, match=f"no shard {number} of {shards}"):
        plan().shard(number, shards)


def test_no_shards_at_all_are_refused_without_offering_0_of_0():
    with pytest.raises(SettingsError) as failure:
        plan().shard(1, 0)
    assert "0/0" not in str(failure.value)
    assert "1/1" in failure.value.hint


def test_a_mark_that_was_cut_short_is_told(toy):
    one = plan(seeds=(0,))
    one.cells[0].folder.mkdir(parents=True)
    (one.cells[0].folder / "done.json").write_text('{"facts": {')
    _, failed = told(one)
    assert len(failed) == 1
    assert failed[one.cells[0]].where == one.cells[0].folder / "done.json"


def test_a_shard_is_written_with_a_slash():
    assert as_shard("3/8") == (3, 8)
    for wrong in ("3", "3/", "a/8", "-1/8", "3/8/2"):
        with pytest.raises(SettingsError, match="3/8 for the third of eight"):
            as_shard(wrong)


@pytest.mark.parametrize("changes", [{"seeds": (1, 1)}, {"datasets": ()}, {"prompts": ("p1", "p1")}])
def test_what_is_named_twice_or_not_at_all_is_refused(changes):
    with pytest.raises(SettingsError, match="name at least one, and each once"):
        plan(**changes)


def test_late_fusion_needs_its_members():
    with pytest.raises(SettingsError, match="the plan lacks biomedclipseg, clipseg"):
        plan(members=("unet_d", LATE_FUSION))


def test_the_profile_decides_what_is_not_said(monkeypatch):
    tiny = paper_plan()
    assert (tiny.datasets, tiny.seeds, tiny.limit) == (("phantom_endoscopy",), (0,), 200)
    assert paper_plan(seeds=(4,), limit=None).seeds == (4,)
    full = PROFILES["full"]
    monkeypatch.setattr(settings, "choose_profile", lambda: (full, "asked"))
    assert (paper_plan().datasets, paper_plan().seeds, paper_plan().limit) == (grid.PAPER, (0, 1, 2), None)


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
