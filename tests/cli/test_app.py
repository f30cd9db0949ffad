import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from tests.conftest import write_toy
from vlsm_helpers.cli import app, doctor
from vlsm_helpers.data.registry import DATASETS
from vlsm_helpers.errors import DataError
from vlsm_helpers.fusion.weighted import WeightedFusion
from vlsm_helpers.settings.profiles import PROFILES


@pytest.fixture
def vlsm(monkeypatch):
    """The command with its arguments; wide, so that tables keep to one line."""
    monkeypatch.setenv("COLUMNS", "250")
    return lambda *arguments: CliRunner().invoke(app, list(map(str, arguments)))


@pytest.fixture
def called(monkeypatch):
    """Puts a stand-in in a function's place; it keeps what it was called with and returns `answer`."""

    def stand_in(name, answer=None):
        calls = []

        def function(*arguments, **options):
            calls.append((arguments, options))
            return answer

        monkeypatch.setattr(name, function)
        return calls

    return stand_in


ROW = dict(model="unet_d", split="test", metric="dice", value=0.5, low=0.4, high=0.6, n=5)


def test_help_comes_at_once_and_without_the_heavy_libraries():
    code = (
        "import sys; from typer.testing import CliRunner; from vlsm_helpers.cli import app;"
        "outcome = CliRunner().invoke(app, ['--help']); print(outcome.stdout);"
        "print(sorted({'torch', 'pandas', 'papermill', 'numpy', 'nbformat'} & set(sys.modules)))"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert spent < 2  # of processor time, which a busy machine does not stretch; 0.3 s
    assert printed.strip().endswith("[]")
    for command in ("run", "data", "train", "evaluate", "predict", "reproduce", "ensemble", "segment", "doctor"):
        assert f"│ {command} " in printed


@pytest.mark.parametrize(
    "command",
    [
        *("run", "data", "data list", "data prepare", "data check", "data adopt", "train", "evaluate", "predict"),
        *("reproduce", "ensemble", "segment", "doctor"),
    ],
)
def test_every_command_explains_itself(vlsm, command):
    outcome = vlsm(*command.split(), "--help")
    assert outcome.exit_code == 0
    assert len(outcome.stdout.split()) > 20


def test_data_list_shows_every_dataset_and_what_is_here(vlsm, monkeypatch, tmp_path):
    monkeypatch.setenv("VLSM_DATA", str(tmp_path))
    (tmp_path / "kvasir_polyp" / "anns").mkdir(parents=True)
    rows = {line.split()[0]: line for line in vlsm("data", "list").stdout.splitlines() if line.strip()}
    assert set(DATASETS) <= set(rows)
    assert "800/100/100" in rows["kvasir_polyp"]
    assert rows["kvasir_polyp"].rstrip().endswith("prepared")
    assert rows["busi"].rstrip().endswith("no")
    assert rows["bkai_polyp"].rstrip().endswith("no, needs an account")
    assert rows["phantom_skin"].rstrip().endswith("drawn when used")
    for card in DATASETS.values():
        assert card.is_phantom or (card.terms in rows[f"{card.name}:"] and card.home in rows[f"{card.name}:"])


def test_data_prepare_hands_on_its_options(vlsm, called):
    calls = called("vlsm_helpers.data.public.prepare.prepare", answer=Path("there/busi"))
    outcome = vlsm("data", "prepare", "busi", "--from", "busi.zip", "--splits", "s", "--to", "there")
    assert calls == [(("busi",), {"source": Path("busi.zip"), "splits": Path("s"), "folder": Path("there")})]
    assert outcome.stdout == "there/busi\n"


def test_data_check_of_a_sound_and_of_a_broken_dataset(vlsm, monkeypatch, tmp_path):
    monkeypatch.setenv("VLSM_DATA", str(tmp_path))
    write_toy(tmp_path)
    assert "ok" in vlsm("data", "check", "toy").stdout
    (tmp_path / "toy" / "masks" / "train_3.png").unlink()
    outcome = vlsm("data", "check", "toy")
    assert outcome.exit_code == 1
    assert "train_3" in outcome.stdout


def test_train_hands_on_only_what_was_given(vlsm, called):
    scored = called("vlsm_helpers.experiments.runs.evaluate_run", answer=pd.DataFrame([ROW]))
    calls = called("vlsm_helpers.experiments.runs.train_member", answer=Path("runs/mine"))
    outcome = vlsm("train", "unet_d", "busi")
    assert calls.pop() == (("unet_d", "busi"), {"seed": 0})
    assert scored == [((Path("runs/mine"),), {})]
    assert "50.0 %" in outcome.stdout
    assert outcome.stdout.endswith("\nruns/mine\n")
    options = (
        "--name mine --recipe published --size 352 --width 1 --epochs 3 --batch-size 8 --limit 40 --prompt p2 --seed 5"
    )
    assert vlsm("train", "unet_d", "busi", *options.split()).exit_code == 0
    given = dict(
        run="mine", recipe="published", size=352, width=1.0, epochs=3, batch_size=8, limit=40, prompt="p2", seed=5
    )
    assert calls.pop() == (("unet_d", "busi"), given)
    options = "--train encoders --weights tiny --no-warm-start"
    assert vlsm("train", "biomedclipseg", "busi", *options.split()).exit_code == 0
    given = dict(train="encoders", weights="tiny", warm_start=False, seed=0)
    assert calls.pop() == (("biomedclipseg", "busi"), given)


def test_training_and_evaluating_for_real(vlsm, toy, monkeypatch, tmp_path):
    monkeypatch.setenv("VLSM_RUNS", str(tmp_path / "runs"))
    options = ["--name", "mine", "--size", "32", "--width", "0.03125", "--epochs", "1", "--batch-size", "4"]
    outcome = vlsm("train", "unet_d", "toy", *options)
    assert outcome.stdout.splitlines()[-1] == str(tmp_path / "runs" / "mine")
    outcome = vlsm("evaluate", "mine", "--split", "val")
    row = next(line for line in outcome.stdout.splitlines() if " dice " in line)
    assert row.count("%") == 3  # the mean and its interval
    assert " val " in row


def test_predict_writes_both_splits_that_rules_need_unless_told_otherwise(vlsm, called, monkeypatch, tmp_path):
    monkeypatch.setenv("VLSM_RUNS", str(tmp_path))
    (tmp_path / "mine").mkdir()
    calls = called("vlsm_helpers.experiments.runs.predict_run", answer=Path("there"))
    assert vlsm("predict", "mine").stdout == "there\nthere\n"
    assert [call for call, _ in calls] == [(tmp_path / "mine", split, None, None) for split in ("val", "test")]
    calls.clear()
    assert vlsm("predict", "mine", "--split", "train", "--dataset", "busi", "--name", "twin").exit_code == 0
    assert [call for call, _ in calls] == [(tmp_path / "mine", "train", "busi", "twin")]


def test_evaluate_takes_a_name_or_a_folder(vlsm, called, monkeypatch, tmp_path):
    monkeypatch.setenv("VLSM_RUNS", str(tmp_path))
    (tmp_path / "mine").mkdir()
    calls = called("vlsm_helpers.experiments.runs.evaluate_run", answer=pd.DataFrame([ROW]))
    assert "50.0 %" in vlsm("evaluate", "mine", "--dataset", "busi").stdout
    vlsm("evaluate", tmp_path / "mine")
    assert calls == [
        ((tmp_path / "mine",), {"split": "test", "dataset": "busi"}),
        ((tmp_path / "mine",), {"split": "test", "dataset": None}),
    ]


def test_evaluate_scores_members_fused_by_a_file_of_weights(vlsm, toy, monkeypatch, tmp_path):
    monkeypatch.setenv("VLSM_RUNS", str(tmp_path / "runs"))
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


def test_a_course_error_is_told_without_a_traceback(vlsm, monkeypatch):
    def refuse(*arguments, **options):
        raise DataError("The archive is broken.", where="busi.zip", hint="fetch it again.")

    monkeypatch.setattr("vlsm_helpers.data.public.prepare.prepare", refuse)
    outcome = vlsm("data", "prepare", "busi")
    assert outcome.exit_code == 1
    assert outcome.stderr == "vlsm: The archive is broken.\n  where: busi.zip\n  hint: fetch it again.\n"
    assert outcome.stdout == ""


def test_an_unknown_profile_is_refused_with_the_known_ones(vlsm):
    outcome = vlsm("run", "--profile", "huge")
    assert outcome.exit_code == 2
    assert all(name in outcome.stderr for name in ("huge", "tiny", "full", "auto"))


def test_profiles_offered_are_those_there_are(vlsm):
    from vlsm_helpers.cli.app import ProfileName

    assert [*ProfileName] == [*PROFILES, "auto"]


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
    for part in (
        "torch 2",
        "transformers 5",
        "device ",
        "threads ",
        "GB free",
        "hub's cache (603 MB)",
        "auto picks",
    ):
        assert part in "\n".join(lines)
    assert not (tmp_path / "runs").exists()  # it looks and makes nothing


def test_doctor_fails_where_runs_cannot_be_written(vlsm, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("VLSM_RUNS", str(tmp_path / "file" / "runs"))
    outcome = vlsm("doctor")
    assert outcome.exit_code == 1
    assert "runs cannot be written to" in outcome.stdout
    assert "VLSM_RUNS" in outcome.stdout.splitlines()[-1]


def test_doctor_survives_a_package_that_is_missing(vlsm, monkeypatch):
    monkeypatch.setattr(doctor, "PACKAGES", ("no-such-package",))
    assert "not installed" in vlsm("doctor").stdout


def test_a_dataset_of_ones_own_is_adopted(vlsm, tmp_path, called):
    calls = called("vlsm_helpers.data.own.adopt", "60 images")
    outcome = vlsm("data", "adopt", "mine", "photos", "labels", "--noun", "tumor", "--group", "^(p[0-9]+)", "--seed", 3)
    assert outcome.exit_code == 0
    assert "60 images" in outcome.stdout
    assert "vlsm ensemble mine --save FOLDER" in outcome.stdout
    [(arguments, options)] = calls
    assert arguments == ("mine", Path("photos"), Path("labels"), "tumor")
    assert options == {"modality": None, "group": "^(p[0-9]+)", "seed": 3, "folder": None}


BAD_NUMBERS = {
    "train unet_d toy": {
        "--size": (0, -5, 1, 10**6, "nan", 3.5),
        "--width": (0, -1, "nan", "inf", 1e9),
        "--epochs": (0, -1, "x"),
        "--batch-size": (0, -1),
        "--limit": (0, -1),
        "--seed": (-1, 99999999999, 2**32),
    },
    "reproduce toy": {"--seed": (-1, 2**32), "--epochs": (0,), "--batch-size": (0,), "--limit": (-5,)},
    "ensemble toy --save x": {"--seed": (-1, 2**32), "--epochs": (0,), "--batch-size": (0,), "--limit": (-5,)},
    "run": {"--seed": (-1, 2**32)},
    "data adopt a b c --noun d": {"--seed": (-1,)},
}


@pytest.mark.parametrize(
    ("words", "option", "value"),
    [
        (words, option, value)
        for words, options in BAD_NUMBERS.items()
        for option, values in options.items()
        for value in values
    ],
)
def test_numbers_out_of_range_are_refused_with_the_name_of_the_option(vlsm, toy, words, option, value):
    outcome = vlsm(*words.split(), option, value)
    assert outcome.exit_code in (1, 2)
    assert isinstance(outcome.exception, SystemExit), "no traceback"
    assert option in outcome.output


@pytest.mark.parametrize("option", ["--name", "--run"])
def test_a_run_is_named_by_the_new_word_and_by_the_old_one(vlsm, called, option):
    called("vlsm_helpers.experiments.runs.evaluate_run", answer=pd.DataFrame([ROW]))
    calls = called("vlsm_helpers.experiments.runs.train_member", answer=Path("runs/mine"))
    assert vlsm("train", "unet_d", "busi", option, "mine").exit_code == 0
    assert calls == [(("unet_d", "busi"), {"run": "mine", "seed": 0})]


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


@pytest.mark.parametrize("command", ["doctor", "data list"])
def test_a_stream_that_cannot_show_a_character_is_no_crash(tmp_path, command):
    """`vlsm doctor > report.txt` on Windows writes cp1252, which has no cross and no Chinese."""
    (tmp_path / "息肉" / "anns").mkdir(parents=True)
    environment = os.environ | {"PYTHONIOENCODING": "cp1252", "VLSM_WEIGHTS": str(tmp_path / "nowhere")}
    child = subprocess.run(
        [sys.executable, "-m", "vlsm_helpers", *command.split()],
        env=environment | {"VLSM_DATA": str(tmp_path), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
    )
    assert b"Traceback" not in child.stderr
    assert child.returncode == (1 if command == "doctor" else 0)
    assert b"VLSM_WEIGHTS names" in child.stdout or command == "data list"


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_trained(vlsm, toy, monkeypatch, tmp_path):
    monkeypatch.setattr(
        "vlsm_helpers.experiments.late_ensemble.train_ensemble", lambda *_, **__: pytest.fail("it trained")
    )
    monkeypatch.setattr(
        "vlsm_helpers.io.atomic.TemporaryFile", lambda **_: (_ for _ in ()).throw(PermissionError(13, "no"))
    )
    outcome = vlsm("ensemble", "toy", "--save", tmp_path / "x" / "y")
    assert outcome.exit_code == 1
    assert "--save" in outcome.stderr
    assert "VLSM" not in outcome.stderr


def test_data_list_shows_datasets_of_ones_own(vlsm, toy):
    rows = {line.split()[0]: line for line in vlsm("data", "list").stdout.splitlines() if line.strip()}
    assert rows["toy"].rstrip().endswith("your own")


def test_reproduce_hands_over_what_was_asked_for(vlsm, monkeypatch, tmp_path, toy):
    from vlsm_helpers.experiments import grid

    monkeypatch.setenv("VLSM_RUNS", str(tmp_path / "runs"))
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


def test_reproduce_ends_with_status_1_where_a_cell_failed(vlsm, monkeypatch, tmp_path, toy):
    from vlsm_helpers.experiments import grid

    monkeypatch.setenv("VLSM_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(grid, "run", lambda plan, cells, tell: {cells[0]: DataError("broken")})
    outcome = vlsm("reproduce", "toy", "--member", "unet_d")
    assert outcome.exit_code == 1
    assert "1 cells failed: toy/unet_d-p1-seed0." in outcome.output


def test_a_command_that_is_stopped_says_that_what_is_finished_is_kept(monkeypatch):
    from vlsm_helpers.cli import doctor

    def stopped(console):
        raise KeyboardInterrupt

    monkeypatch.setattr(doctor, "report", stopped)
    outcome = CliRunner().invoke(app, ["doctor"])
    assert outcome.exit_code == 130
    assert "stopped; what is finished is kept" in outcome.output
