import io
import sys
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from tests.processes import python
from vlsm_helpers.cli import app, doctor
from vlsm_helpers.data.formats import AS_FILED, Reading
from vlsm_helpers.errors import DataError


def test_help_loads_no_heavy_library():
    code = (
        "import sys; from typer.testing import CliRunner; from vlsm_helpers.cli import app;"
        "CliRunner().invoke(app, ['--help'], catch_exceptions=False);"
        "print(sorted({'torch', 'pandas', 'papermill', 'numpy', 'nbformat'} & set(sys.modules)))"
    )
    assert python(code).strip() == "[]"


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


def test_a_command_that_is_stopped_says_that_what_is_finished_is_kept(monkeypatch):

    def stopped(console):
        raise KeyboardInterrupt

    monkeypatch.setattr(doctor, "report", stopped)
    outcome = CliRunner().invoke(app, ["doctor"])
    assert outcome.exit_code == 130
    assert "stopped; what is finished is kept" in outcome.output
