import json
import subprocess
import sys
import time
from argparse import Namespace

import pytest
import torch

from benchmarks import gpu, gpu_sections
from benchmarks.gpu_sections import BF16, COMPILED, FLOAT32, INFERENCE, STEP, WITHOUT_TF32
from vlsm_helpers.errors import SettingsError

FEW = ("unet_d",)


@pytest.fixture
def few(toy, monkeypatch):
    monkeypatch.setattr(gpu_sections, "MEMBERS", FEW)


def dry(out, *arguments):
    return gpu.main(["--dry", "--dataset", "toy", "--minutes", "20", "--out", str(out), *arguments])


def test_every_section_runs_at_tiny_size_and_is_kept(few, tmp_path, monkeypatch, capsys):
    starts = []
    monkeypatch.setattr(gpu_sections, "_start", lambda arguments, runs: starts.append(arguments) or child("dice"))
    out = tmp_path / "gpu.json"
    assert dry(out) == 0
    found = json.loads(out.read_text())
    assert list(found) == [*FEW, "training", "features", "parity", "processes", *(f"{name}, compiled" for name in FEW)]
    for name in FEW:
        steps = [row for row in found[name]["rows"] if "share" in row]
        assert [(row["what"].split(" of ")[0], row["way"]) for row in steps] == [
            (kind, way) for kind in (STEP, INFERENCE) for way in (FLOAT32, BF16)
        ]
        assert all(row["seconds"] > 0 and row["gigaflop"] > 0 and row["share"] > 0 for row in steps)
        assert {COMPILED} < {row["way"] for row in found[f"{name}, compiled"]["rows"]}
    assert found["training"]["rows"][0]["seconds"] > 0
    exact = [row for row in found["parity"]["rows"] if row["way"] == WITHOUT_TF32]
    assert [row["deviation"] <= gpu_sections.TOLERANCE for row in exact] == [True] * len(FEW)
    assert [row["wanted"] for row in found["processes"]["rows"]] == ["both work", "works"]
    assert [("torch.distributed.run" in command) for command in starts] == [False, False, True]
    assert all(section in out.with_suffix(".md").read_text() for section in found)
    first = out.read_text()
    assert dry(out) == 0  # all is there: nothing is measured again
    assert out.read_text() == first


def child(said, status=0):
    """A process that ends like a training: trainings on two processes themselves are tested in tests/training."""
    code = f"print({said!r}); raise SystemExit({status})"
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    ("said", "status", "verdict"),
    [
        ("dice 0.5", 0, "works"),
        ("2 processes\nhint: start 1", 1, "refused with a hint"),
        ("NCCL | Duplicate", 1, "FAILED"),
    ],
)
def test_two_processes_work_or_are_refused_with_a_hint(monkeypatch, said, status, verdict):
    monkeypatch.setattr(
        gpu_sections, "_start", lambda arguments, runs: child(said, status) if runs.name == "both" else child("done")
    )
    apart, together = gpu_sections.two_processes(Namespace(dataset="toy"))
    assert (apart["wanted"], together["wanted"].split(":")[0]) == ("both work", verdict)
    assert "|" not in together["wanted"]


def test_two_trainings_of_which_one_fails_are_reported(monkeypatch):
    monkeypatch.setattr(gpu_sections, "_start", lambda arguments, runs: child("out of memory", int(runs.name == "two")))
    assert gpu_sections.two_processes(Namespace(dataset="toy"))[0]["wanted"] == "FAILED: out of memory"


@pytest.fixture
def quick(few, monkeypatch):
    """Sections of no work; the list of those that ran."""
    ran = []

    def section(name, given):
        ran.append(name)
        return [{"what": name, "way": "", "seconds": 1.0}]

    order = {name: lambda given, name=name: section(name, given) for name in "abc"}
    monkeypatch.setattr(gpu, "all_sections", lambda: order)
    return order, ran


def test_a_section_that_fails_leaves_the_others_and_is_tried_again(quick, tmp_path, capsys):
    order, ran = quick

    def fails(given):
        raise torch.cuda.OutOfMemoryError("no room | at all")

    works, order["b"] = order["b"], fails
    assert dry(tmp_path / "gpu.json") == 1
    assert "OutOfMemoryError: no room / at all" in (tmp_path / "gpu.md").read_text()
    assert ran == ["a", "c"]
    order["b"] = works
    assert dry(tmp_path / "gpu.json") == 0
    assert ran == ["a", "c", "b"]


def test_the_limit_of_time_ends_a_section_and_the_next_run_resumes(quick, tmp_path, capsys):
    order, ran = quick
    works, order["b"] = order["b"], lambda given: time.sleep(60)
    begin = time.monotonic()
    assert dry(tmp_path / "gpu.json", "--minutes", "0.05") == 1
    assert time.monotonic() - begin < 30
    assert list(json.loads((tmp_path / "gpu.json").read_text())) == ["a"]
    assert "b, c" in capsys.readouterr().out
    order["b"] = works
    assert dry(tmp_path / "gpu.json") == 0
    assert ran == ["a", "b", "c"]


def test_figures_of_another_card_are_measured_again(quick, tmp_path, monkeypatch, capsys):
    _, ran = quick
    dry(tmp_path / "gpu.json")
    monkeypatch.setattr(gpu.settings, "hardware", lambda: "NVIDIA T4")
    dry(tmp_path / "gpu.json")
    assert ran == list("abcabc")


def test_without_a_gpu_only_a_dry_run_is_made(quick, tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "device", lambda: "cpu")
    with pytest.raises(SystemExit, match="--dry"):
        gpu.main(["--out", str(tmp_path / "gpu.json")])
    with pytest.raises(SystemExit):
        gpu.main(["--dry", "unknown"])


def test_more_processes_than_gpus_are_refused(monkeypatch):
    from vlsm_helpers import settings

    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(SettingsError, match="2 processes"):
        settings.process()
