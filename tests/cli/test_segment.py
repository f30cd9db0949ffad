"""`vlsm segment`, with real networks of a few channels."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import vlsm_helpers as vlsm
from tests.cli.test_sources import run_of
from vlsm_helpers.cli import app


@pytest.fixture
def work(tmp_path, monkeypatch, own_runs):
    """A working folder with images in two folders, and a trained run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VLSM_PROFILE", "tiny")
    torch.manual_seed(0)
    run_of(vlsm.build("unet_d", width=1 / 32), tmp_path / "runs" / "mine")
    generator = np.random.default_rng(0)
    for name in ("a/one.png", "a/two.jpg", "b/three.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (24, 30, 3), dtype=np.uint8)).save(tmp_path / name)
    return tmp_path


def segment(*words):
    return CliRunner().invoke(app, ["segment", *words])


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["a"], ["one", "two"]),
        (["a/*.png", "b"], ["one", "three"]),
        (["**/*.png"], ["one", "three"]),
        (["a/one.png", "a"], ["one", "two"]),
    ],
)
def test_files_folders_and_globs(work, given, expected):
    outcome = segment(*given, "--with", "mine", "--to", "out")
    assert outcome.exit_code == 0, outcome.output
    assert sorted(path.stem for path in (work / "out").glob("*[!y].png")) == sorted(expected)
    assert "area_px" in pd.read_csv(work / "out" / "segmented.csv").columns


def test_what_was_written_into_a_folder_is_not_segmented_with_it(work):
    for _ in range(2):
        assert segment("a", "--with", "mine", "--to", "a/out").exit_code == 0
    assert len(pd.read_csv(work / "a" / "out" / "segmented.csv")) == 2


@pytest.mark.parametrize("given", ["none/*.png", "empty", "a/nothing.png"])
def test_what_is_not_there_is_told(work, given):
    (work / "empty").mkdir()
    outcome = segment(given, "--with", "mine", "--to", "out")
    assert (outcome.exit_code, (work / "out").exists()) == (1, False)
    assert "where:" in outcome.output


def test_zero_shot_with_two_prompts_and_coco(work):
    outcome = segment(
        "a", "--with", "clipseg", "--prompt", "a polyp", "--prompt", "a square", "--also", "coco", "--to", "out"
    )
    assert outcome.exit_code == 0, outcome.output
    assert (work / "out" / "segmented_coco.json").exists()
    for name in ("one_a_polyp", "one_a_square", "one_labels", "two_labels"):
        assert Image.open(work / "out" / f"{name}.png").size == (30, 24)
    assert outcome.output.count("a polyp") >= 2
    without = segment("a", "--with", "clipseg", "--to", "other")
    assert (without.exit_code, (work / "other").exists()) == (1, False)
    assert "--prompt" in without.output


def test_an_unknown_form_is_told_before_a_network_is_loaded(work):
    outcome = segment("a", "--with", "mine", "--also", "coco,dicomseg", "--to", "out")
    assert (outcome.exit_code, (work / "out").exists()) == (1, False)
    assert "dicom-seg" in outcome.output


def test_prompts_that_a_cnn_ignores_are_told(work):
    prompts = ["--prompt", "polyp", "--prompt", "instrument"]
    outcome = segment("a", "--with", "mine", *prompts, "--to", "out")
    assert outcome.exit_code == 0, outcome.output
    assert "ignore" in outcome.output
    assert set(np.unique(Image.open(work / "out" / "one_labels.png"))) <= {0, 1}
