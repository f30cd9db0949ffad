import shutil
from io import StringIO

import pytest
import torch
from rich.console import Console

from tests.models.test_pretrained import in_hub_cache
from tests.no_network import run_without_network
from vlsm_helpers.cli import doctor
from vlsm_helpers.models import pretrained
from vlsm_helpers.settings.published import BIOMEDCLIP, CLIPSEG


@pytest.fixture(autouse=True)
def places(tiny_weights, tmp_path, monkeypatch):
    """Nothing anywhere but what the package ships; an empty hub's cache."""
    monkeypatch.setattr(pretrained, "SHIPPED", tiny_weights)
    monkeypatch.setenv("VLSM_WEIGHTS", "")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


def examined():
    out = StringIO()
    problems = doctor.report(Console(file=out, width=250))
    return out.getvalue(), problems


def test_a_folder_that_cannot_be_written_to_is_a_problem(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("VLSM_CACHE", str(tmp_path / "file" / "cache"))
    _, problems = examined()
    assert any("VLSM_CACHE" in problem for problem in problems)


def test_the_precision_of_training_is_told_and_one_that_there_is_not_is_a_problem(monkeypatch):
    monkeypatch.setattr("vlsm_helpers.settings.device", lambda: "cpu")
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)
    text, _ = examined()
    assert "float32" in row(text, "trains in")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp7")
    text, problems = examined()
    assert "fp7" in row(text, "trains in")
    assert ["bf16" in problem for problem in problems] == [True]


def row(text, name):
    """What stands beside `name`, its second line too."""
    lines = text.splitlines()
    place = next(number for number, line in enumerate(lines) if line.strip().startswith(name))
    return " ".join(lines[place].split()) + " | " + " ".join(lines[place + 1].split())


def test_weights_are_examined_in_every_place(tiny_weights, tmp_path, monkeypatch):
    brought = shutil.copytree(tiny_weights, tmp_path / "brought")
    shutil.rmtree(brought / "biomedclip")
    in_hub_cache(tmp_path / "hub", BIOMEDCLIP.hub_id, tiny_weights / "biomedclip")
    monkeypatch.setenv("VLSM_WEIGHTS", str(brought))
    text, problems = examined()
    assert problems == []
    mark = pretrained.fingerprint(brought / "clipseg", CLIPSEG)
    megabytes = sum(file.stat().st_size for file in (brought / "clipseg").iterdir()) / 1e6
    for place, folder in {"shipped": tiny_weights, "VLSM_WEIGHTS": brought}.items():
        found = row(text, f"clipseg, {place}")
        assert found == f"clipseg, {place} {folder / 'clipseg'} | model.safetensors, {megabytes:.1f} MB, sha256 {mark}"
    assert row(text, "clipseg, hub's cache").startswith("clipseg, hub's cache (603 MB) none")
    assert row(text, "biomedclip, VLSM_WEIGHTS").startswith("biomedclip, VLSM_WEIGHTS none")
    cached = row(text, "biomedclip, hub's cache")
    assert "open_clip_pytorch_model.bin" in cached
    assert "revision 000000000000, sha256" in cached


def test_a_download_that_stopped_half_way_is_no_problem(tiny_weights, tmp_path):
    partial = shutil.copytree(tiny_weights / "clipseg", tmp_path / "partial")
    (partial / "model.safetensors").unlink()
    in_hub_cache(tmp_path / "hub", CLIPSEG.hub_id, partial)
    text, problems = examined()
    assert problems == []
    assert row(text, "clipseg, hub's cache").startswith("clipseg, hub's cache (603 MB) none")


def remove_the_config(folder):
    (folder / "config.json").unlink()


def truncate(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


def attack(folder):
    (folder / "model.safetensors").unlink()
    torch.save({"weight": shutil.rmtree}, folder / "pytorch_model.bin")


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (remove_the_config, "Files are missing: config.json."),
        (truncate, "The weights are broken"),
        (attack, "more than tensors"),
        (shutil.rmtree, "The folder does not exist."),
    ],
)
def test_what_is_wrong_with_weights_is_said_with_its_cure(tiny_weights, tmp_path, monkeypatch, spoil, what):
    shipped = shutil.copytree(tiny_weights, tmp_path / "shipped")
    spoil(shipped / "clipseg")
    monkeypatch.setattr(pretrained, "SHIPPED", shipped)
    text, problems = examined()
    assert what in row(text, "clipseg, shipped")
    assert len(problems) == 1
    assert what in problems[0]
    assert "restore clipseg/ in a checkout with git" in problems[0]


def test_brought_weights_that_are_broken_are_fetched_again(tiny_weights, tmp_path, monkeypatch):
    brought = shutil.copytree(tiny_weights, tmp_path / "brought")
    truncate(brought / "clipseg")
    monkeypatch.setenv("VLSM_WEIGHTS", str(brought))
    _, problems = examined()
    assert len(problems) == 1
    assert f"run `hf download {CLIPSEG.hub_id} --local-dir weights/clipseg`" in problems[0]


def test_a_folder_of_weights_that_is_not_there_is_a_problem(tmp_path, monkeypatch):
    monkeypatch.setenv("VLSM_WEIGHTS", str(tmp_path / "nowhere"))
    _, problems = examined()
    assert problems == [f"VLSM_WEIGHTS names a folder that does not exist: {tmp_path / 'nowhere'}; correct or unset it"]


def test_offline_the_doctor_makes_no_request(tiny_weights):
    code = """
from rich.console import Console
from vlsm_helpers.cli import doctor
doctor.report(Console(width=250))
print(len(requests), "requests")
"""
    printed = run_without_network(code, HF_HUB_OFFLINE="1", VLSM_WEIGHTS=str(tiny_weights))
    assert printed[-1] == "0 requests"
    assert any("not asked: HF_HUB_OFFLINE is set" in line for line in printed)


def test_doctor_reports_what_a_bug_report_needs(vlsm, monkeypatch, tmp_path):
    for name in ("DATA", "RUNS", "CACHE"):
        monkeypatch.setenv(f"VLSM_{name}", str(tmp_path / name.lower()))
    (tmp_path / "data" / "busi" / "anns").mkdir(parents=True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    outcome = vlsm("doctor")
    assert outcome.exit_code == 0
    lines = [" ".join(line.split()) for line in outcome.stdout.splitlines()]
    for expected in ("busi prepared", "hub not asked: HF_HUB_OFFLINE is set", f"runs (VLSM_RUNS) {tmp_path / 'runs'}"):
        assert expected in lines
    for part in ("torch 2", "transformers 5", "device ", "threads ", "GB free", "hub's cache (603 MB)", "auto picks"):
        assert part in "\n".join(lines)
    assert not (tmp_path / "runs").exists()  # it looks and makes nothing
