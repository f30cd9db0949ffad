"""The plan for a class: its minutes add up, its sections exist, and its command makes copies without outputs and answers."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from tools.notebooks import NOTEBOOKS, PROJECT, tagged

PLAN = (PROJECT / "docs" / "teaching.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (\d+) to (\d+) \|(.*)\|(.*)\|$", PLAN, re.M)
COMMAND = (
    "jupyter nbconvert --ClearOutputPreprocessor.enabled=True --to notebook --output-dir student notebooks/0*.ipynb"
)


def chapter(number: str) -> nbformat.NotebookNode:
    [path] = NOTEBOOKS.glob(f"0{number}_*.ipynb")
    return nbformat.read(path, as_version=4)


def test_the_minutes_follow_each_other_and_make_ninety():
    assert [int(start) for start, *_ in ROWS] == [0, *(int(end) for _, end, *_ in ROWS[:-1])]
    assert int(ROWS[-1][1]) == 90


@pytest.mark.parametrize("where", [row[3].strip() for row in ROWS if row[3].strip()])
def test_every_section_that_it_names_exists(where):
    number = re.match(r"chapter (\w+), ", where)[1]
    sections = {
        int(found) for cell in chapter(number).cells for found in re.findall(r"^## (\d+) · ", cell.source, re.M)
    }
    named = [int(found) for found in re.findall(r"\d+", where.partition(",")[2])]
    assert named
    assert set(named) <= sections


def test_make_and_the_plan_give_the_same_command():
    assert f"`{COMMAND}`" in PLAN
    assert f"\t$(BIN)/{COMMAND}\n" in (PROJECT / "Makefile").read_text(encoding="utf-8")


def test_copies_for_a_class_have_no_outputs_and_no_answers(tmp_path):
    original = NOTEBOOKS / "00_start_here.ipynb"
    before = original.read_bytes()
    words = shlex.split(
        COMMAND.replace("student", shlex.quote(str(tmp_path))).replace("notebooks/0*.ipynb", str(original))
    )
    subprocess.run([sys.executable, "-m", *words], check=True, capture_output=True, cwd=PROJECT)
    assert original.read_bytes() == before
    copy = nbformat.read(tmp_path / original.name, as_version=4)
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in copy.cells)
    assert [cell.source for cell in copy.cells] == [cell.source for cell in nbformat.reads(before, as_version=4).cells]


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("0*.ipynb")), ids=lambda path: path.stem)
def test_exercises_hold_no_answers(path: Path):
    exercises = tagged(nbformat.read(path, as_version=4), "exercise")
    assert exercises
    for cell in exercises:
        assert re.search(r"= \.\.\.$", cell.source, re.M), cell.source
