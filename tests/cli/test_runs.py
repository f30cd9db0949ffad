import re

import pandas as pd
import pytest
from typer.testing import CliRunner

from vlsm_helpers.cli import app
from vlsm_helpers.errors import DataError
from vlsm_helpers.fusion.weighted import WeightedFusion


def test_training_and_evaluating_for_real(vlsm, toy, tmp_path, own_runs):
    options = ["--name", "mine", "--size", "32", "--width", "0.03125", "--epochs", "1", "--batch-size", "4"]
    outcome = vlsm("train", "unet_d", "toy", *options)
    assert outcome.stdout.splitlines()[-1] == str(tmp_path / "runs" / "mine")
    outcome = vlsm("evaluate", "mine", "--split", "val")
    row = next(line for line in outcome.stdout.splitlines() if " dice " in line)
    assert row.count("%") == 3  # the mean and its interval
    assert " val " in row


def test_evaluate_scores_members_fused_by_a_file_of_weights(vlsm, toy, tmp_path, own_runs):
    sized = ["--size", "32", "--width", "0.03125", "--epochs", "1"]
    vlsm("train", "unet_d", "toy", "--name", "mine", *sized)
    folders = [tmp_path / "runs" / run / "logits" / "toy-test" for run in ("mine", "other")]
    vlsm("train", "unet_d", "toy", "--name", "other", "--seed", "1", *sized)
    vlsm("predict", "mine", "--split", "test")
    vlsm("predict", "other", "--split", "test", "--name", "twin")
    weights = tmp_path / "fusion.json"
    WeightedFusion({"twin": 0.0, "unet_d": 1.0}).save(weights)
    outcome = vlsm("evaluate", weights, *folders)
    fused = next(line for line in outcome.stdout.splitlines() if " dice " in line)
    alone = next(line for line in vlsm("evaluate", "mine").stdout.splitlines() if " dice " in line)
    assert fused.split()[0] == "fusion"
    assert fused.split()[1:] == alone.split()[1:], "with all the weight it scores as the member alone"
    assert len(pd.read_csv(tmp_path / "fusion.csv")) == 5
    assert "no member 'unet_d'" in vlsm("evaluate", weights, folders[1]).stderr
    assert "no prediction to fuse.\n  hint: make some first: `vlsm predict RUN`" in vlsm("evaluate", weights).stderr
    outcome = vlsm("evaluate", weights, *folders, "--split", "val")
    assert outcome.exit_code == 1
    assert "leave --split and --dataset out" in outcome.stderr


def test_evaluating_a_run_that_is_not_there_names_those_that_are(vlsm, monkeypatch, tmp_path):
    monkeypatch.setenv("VLSM_RUNS", str(tmp_path))
    assert "vlsm train" in vlsm("evaluate", "mine").stderr
    (tmp_path / "yours").mkdir()
    (tmp_path / "yours" / "metrics.csv").write_text("epoch\n")
    outcome = vlsm("evaluate", "mine")
    assert outcome.exit_code == 1
    assert "choose among yours" in outcome.stderr


@pytest.mark.parametrize("option", ["--name", "--run"])
def test_a_run_is_named_by_the_new_word_and_by_the_old_one(vlsm, toy, tmp_path, option, own_runs):
    assert (
        vlsm("train", "unet_d", "toy", "--size", "32", "--width", "0.03", "--epochs", "1", option, "mine").exit_code
        == 0
    )
    assert (tmp_path / "runs" / "mine" / "per_image.csv").exists()


def test_no_option_of_train_is_taken_by_a_launcher_for_its_own():
    """argparse lets a launcher's options be cut short, and looks for them among the program's, too (pytorch#120601)."""
    from accelerate.commands.launch import launch_command_parser
    from torch.distributed.run import get_args_parser

    help_text = CliRunner().invoke(app, ["train", "--help"], env={"COLUMNS": "250"}).stdout
    options = set(re.findall(r"(--[a-z-]+)", help_text)) - {"--help"}
    assert {"--name", "--epochs", "--seed"} <= options
    for parser in (get_args_parser(), launch_command_parser()):
        theirs = {word for action in parser._actions for word in action.option_strings}
        assert not [(own, other) for own in options for other in theirs if other.startswith(own)]


def test_reproduce_hands_over_what_was_asked_for(vlsm, monkeypatch, toy, own_runs):
    from vlsm_helpers.experiments import grid

    asked = []
    monkeypatch.setattr(grid, "run", lambda plan, cells, tell: asked.append((plan, cells)) or {})
    options = ["--member", "unet_d", "--member", "clipseg", "--seed", 1, "--seed", 2, "--prompt", "p0"]
    outcome = vlsm("reproduce", "toy", *options, "--also-test", "other", "--epochs", 2, "--limit", 9, "--shard", "2/3")
    assert outcome.exit_code == 0, outcome.output
    [(plan, cells)] = asked
    assert (plan.members, plan.seeds, plan.prompts, plan.also_test) == (
        ("unet_d", "clipseg"),
        (1, 2),
        ("p0",),
        ("other",),
    )
    assert (plan.epochs, plan.limit) == (2, 9)
    assert [cell.name for cell in cells] == ["toy/clipseg-p0-seed1"]
    assert "not run" in outcome.stdout
    assert vlsm("reproduce", "toy", "--table").exit_code == 0
    assert len(asked) == 1  # the table alone runs nothing


def test_reproduce_joins_the_members_that_it_is_given(vlsm, monkeypatch, toy, own_runs):
    from vlsm_helpers.experiments import grid

    asked = []
    monkeypatch.setattr(grid, "run", lambda plan, cells, tell: asked.append(cells) or {})
    assert vlsm("reproduce", "toy", "--fuse", "unet_d", "--fuse", "clipseg").exit_code == 0
    joined = [cell for cell in asked[0] if cell.joined]
    assert [cell.name for cell in joined] == ["toy/late_fusion-of-clipseg-unet_d-p1-seed0"]
    outcome = vlsm("reproduce", "toy", "--member", "unet_d", "--member", "late_fusion", "--fuse", "nosuch")
    assert outcome.exit_code == 1
    assert "nosuch" in outcome.stderr


def test_reproduce_ends_with_status_1_where_a_cell_failed(vlsm, monkeypatch, toy, own_runs):
    from vlsm_helpers.experiments import grid

    monkeypatch.setattr(grid, "run", lambda plan, cells, tell: {cells[0]: DataError("broken")})
    outcome = vlsm("reproduce", "toy", "--member", "unet_d")
    assert outcome.exit_code == 1
    assert "1 cells failed: toy/unet_d-p1-seed0." in outcome.output
