import io
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from tests.helpers import write_toy
from vlsm_helpers.cli import app, doctor
from vlsm_helpers.data.formats import AS_FILED, Reading
from vlsm_helpers.data.registry import DATASETS
from vlsm_helpers.errors import DataError
from vlsm_helpers.fusion.weighted import WeightedFusion


@pytest.fixture
def vlsm(monkeypatch):
    """The command with its arguments; wide, so that tables keep to one line."""
    monkeypatch.setenv("COLUMNS", "250")
    return lambda *arguments: CliRunner().invoke(app, list(map(str, arguments)))


def test_help_loads_no_heavy_library():
    code = (
        "import sys; from typer.testing import CliRunner; from vlsm_helpers.cli import app;"
        "CliRunner().invoke(app, ['--help'], catch_exceptions=False);"
        "print(sorted({'torch', 'pandas', 'papermill', 'numpy', 'nbformat'} & set(sys.modules)))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"


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
    write_toy(tmp_path)
    rows = {line.split()[0]: line for line in vlsm("data", "list").stdout.splitlines() if line.strip()}
    assert set(DATASETS) <= set(rows)
    assert "800/100/100" in rows["kvasir_polyp"]
    assert rows["kvasir_polyp"].rstrip().endswith("prepared")
    assert rows["busi"].rstrip().endswith("no")
    assert rows["bkai_polyp"].rstrip().endswith("no, needs an account")
    assert rows["phantom_skin"].rstrip().endswith("drawn when used")
    assert rows["toy"].rstrip().endswith("your own")
    for card in DATASETS.values():
        assert card.is_phantom or (card.terms in rows[f"{card.name}:"] and card.home in rows[f"{card.name}:"])


ROW = pd.DataFrame([dict(model="unet_d", split="test", metric="dice", value=0.5, low=0.4, high=0.6, n=5)])
RUNS, DATA = "vlsm_helpers.experiments.runs", "vlsm_helpers.data"
MINE = Path("runs/mine")
HANDED_ON = [  # words, the function that they reach, what it is called with
    ("data prepare busi --from busi.zip --splits s --to there", f"{DATA}.public.prepare.prepare",
     [(("busi",), dict(source=Path("busi.zip"), splits=Path("s"), folder=Path("there")))]),
    ("data adopt mine photos labels --noun tumor --group ^(p) --seed 3", f"{DATA}.own.adopt",
     [(("mine", Path("photos"), Path("labels"), "tumor"),
       dict(modality=None, group="^(p)", seed=3, folder=None, reading=AS_FILED))]),
    ("data adopt mine photos maps --labels 1=polyp --every 2 --key key.csv", f"{DATA}.own.adopt",
     [(("mine", Path("photos"), Path("maps"), None), dict(modality=None, group=None, seed=0, folder=None,
       labels="1=polyp", key=Path("key.csv"), reading=Reading(every=2)))]),
    ("train unet_d busi", f"{RUNS}.train_member", [(("unet_d", "busi"), dict(seed=0))]),
    ("train unet_d busi --run mine --size 352 --width 1 --epochs 3 --batch-size 8 --limit 40 --prompt p2 --seed 5",
     f"{RUNS}.train_member", [(("unet_d", "busi"), dict(run="mine", size=352, width=1.0, epochs=3, batch_size=8,
                                                        limit=40, prompt="p2", seed=5))]),
    ("train biomedclipseg busi --train encoders --weights tiny --no-warm-start", f"{RUNS}.train_member",
     [(("biomedclipseg", "busi"), dict(train="encoders", weights="tiny", warm_start=False, seed=0))]),
    ("predict {mine}", f"{RUNS}.predict_run", [((MINE, split, None, None), {}) for split in ("val", "test")]),
    ("predict mine --split train --dataset busi --name twin", f"{RUNS}.predict_run",
     [((MINE, "train", "busi", "twin"), {})]),
    ("evaluate mine --dataset busi", f"{RUNS}.evaluate_run", [((MINE,), dict(split="test", dataset="busi"))]),
]  # fmt: skip


@pytest.mark.parametrize(("words", "function", "expected"), HANDED_ON, ids=[words for words, *_ in HANDED_ON])
def test_a_command_hands_on_what_was_given(vlsm, monkeypatch, tmp_path, words, function, expected):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VLSM_RUNS", "runs")
    (tmp_path / MINE).mkdir(parents=True)
    calls = []
    answers = {"evaluate_run": ROW, "evaluate_run_classes": None, "train_member": MINE}
    for name in {function, f"{RUNS}.evaluate_run", f"{RUNS}.evaluate_run_classes"}:
        found = answers.get(name.rpartition(".")[2], Path("there"))
        keep = calls.append if name == function else lambda call: None
        monkeypatch.setattr(name, lambda *given, keep=keep, found=found, **options: keep((given, options)) or found)
    outcome = vlsm(*words.format(mine=MINE).split())
    assert outcome.exit_code == 0, outcome.output
    relative = [(tuple(_relative(one, tmp_path) for one in given), options) for given, options in calls]
    assert relative == expected


def _relative(value, folder):
    return value.relative_to(folder) if isinstance(value, Path) and value.is_absolute() else value


def test_data_check_of_a_sound_and_of_a_broken_dataset(vlsm, monkeypatch, tmp_path):
    monkeypatch.setenv("VLSM_DATA", str(tmp_path))
    write_toy(tmp_path)
    assert "ok" in vlsm("data", "check", "toy").stdout
    (tmp_path / "toy" / "masks" / "train_3.png").unlink()
    outcome = vlsm("data", "check", "toy")
    assert outcome.exit_code == 1
    assert "train_3" in outcome.stdout


def test_training_and_evaluating_for_real(vlsm, toy, monkeypatch, tmp_path):
    monkeypatch.setenv("VLSM_RUNS", str(tmp_path / "runs"))
    options = ["--name", "mine", "--size", "32", "--width", "0.03125", "--epochs", "1", "--batch-size", "4"]
    outcome = vlsm("train", "unet_d", "toy", *options)
    assert outcome.stdout.splitlines()[-1] == str(tmp_path / "runs" / "mine")
    outcome = vlsm("evaluate", "mine", "--split", "val")
    row = next(line for line in outcome.stdout.splitlines() if " dice " in line)
    assert row.count("%") == 3  # the mean and its interval
    assert " val " in row


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
def test_a_run_is_named_by_the_new_word_and_by_the_old_one(vlsm, toy, monkeypatch, tmp_path, option):
    monkeypatch.setenv("VLSM_RUNS", str(tmp_path / "runs"))
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


@pytest.mark.parametrize("command", ["doctor", "data list"])
def test_a_stream_that_cannot_show_a_character_is_no_crash(tmp_path, monkeypatch, command):
    """`vlsm doctor > report.txt` on Windows writes cp1252, which has no cross and no Chinese."""
    (tmp_path / "息肉" / "anns").mkdir(parents=True)
    monkeypatch.setenv("VLSM_WEIGHTS", str(tmp_path / "nowhere"))
    monkeypatch.setenv("VLSM_DATA", str(tmp_path))
    stream = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    with pytest.raises(UnicodeEncodeError):
        stream.write("息肉")
    monkeypatch.setattr(sys, "stdout", stream)
    with pytest.raises(SystemExit) as end:
        app(command.split())
    assert end.value.code == (1 if command == "doctor" else 0)
    stream.flush()
    assert (b"VLSM_WEIGHTS names" if command == "doctor" else b"??") in stream.buffer.getvalue()


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


def test_reproduce_joins_the_members_that_it_is_given(vlsm, monkeypatch, tmp_path, toy):
    from vlsm_helpers.experiments import grid

    monkeypatch.setenv("VLSM_RUNS", str(tmp_path / "runs"))
    asked = []
    monkeypatch.setattr(grid, "run", lambda plan, cells, tell: asked.append(cells) or {})
    assert vlsm("reproduce", "toy", "--fuse", "unet_d", "--fuse", "clipseg").exit_code == 0
    joined = [cell for cell in asked[0] if cell.joined]
    assert [cell.name for cell in joined] == ["toy/late_fusion-of-clipseg-unet_d-p1-seed0"]
    outcome = vlsm("reproduce", "toy", "--member", "unet_d", "--member", "late_fusion", "--fuse", "nosuch")
    assert outcome.exit_code == 1
    assert "nosuch" in outcome.stderr


def test_reproduce_ends_with_status_1_where_a_cell_failed(vlsm, monkeypatch, tmp_path, toy):
    from vlsm_helpers.experiments import grid

    monkeypatch.setenv("VLSM_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(grid, "run", lambda plan, cells, tell: {cells[0]: DataError("broken")})
    outcome = vlsm("reproduce", "toy", "--member", "unet_d")
    assert outcome.exit_code == 1
    assert "1 cells failed: toy/unet_d-p1-seed0." in outcome.output


def test_a_command_that_is_stopped_says_that_what_is_finished_is_kept(monkeypatch):

    def stopped(console):
        raise KeyboardInterrupt

    monkeypatch.setattr(doctor, "report", stopped)
    outcome = CliRunner().invoke(app, ["doctor"])
    assert outcome.exit_code == 130
    assert "stopped; what is finished is kept" in outcome.output
