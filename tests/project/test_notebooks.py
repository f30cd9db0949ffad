"""Notebooks executed the two ways that readers use. `make test` adds `--nbmake notebooks`: every chapter, once."""

import os
import re
import shutil
import subprocess
import sys

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from tools.notebooks import PROJECT
from vlsm_helpers.course.executed import read
from vlsm_helpers.course.execution import run_notebook

pytestmark = pytest.mark.notebooks

WHERE = """
import os
from pathlib import Path
assert Path.cwd().name == {folder!r}, Path.cwd()
assert os.environ["VLSM_DATA"] == {data!r}, os.environ["VLSM_DATA"]
"""
TESTS = """
import os
from pathlib import Path
import pytest

@pytest.mark.notebooks
@pytest.mark.parametrize("number", range(8))
def test_one(number):
    Path({folder!r}, os.environ["PYTEST_XDIST_WORKER"]).touch()
"""


def write_notebook(path, *sources):
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(new_notebook(cells=[new_code_cell(source) for source in sources], metadata=kernel), path)
    return path


def test_one_run_has_tests_lessons_and_solutions(tmp_path):
    """`pytest tests --nbmake notebooks -n 2` typed in a small checkout, with a relative VLSM_DATA."""
    for name in ("pyproject.toml", "conftest.py"):
        shutil.copy(PROJECT / name, tmp_path)
    data = str(tmp_path / "images")
    write_notebook(tmp_path / "notebooks" / "00_lesson.ipynb", WHERE.format(folder="notebooks", data=data))
    write_notebook(tmp_path / "notebooks" / "01_fails.ipynb", "values = [1, 2]", "values[2]")
    write_notebook(
        tmp_path / "notebooks" / "solutions" / "00_lesson.ipynb", WHERE.format(folder="solutions", data=data)
    )
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_one.py").write_text(TESTS.format(folder=str(tmp_path)))
    (tmp_path / "tests" / "test_two.py").write_text("def test_left_out(): pass\n")
    command = [sys.executable, "-m", "pytest", "tests", "--nbmake", "notebooks", "-n", "2", "-m", "notebooks"]
    environment = os.environ | {"VLSM_DATA": "images"}
    outcome = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert outcome.returncode == 1
    closing = re.findall(r"^=+ .*(?:passed|failed).* =+$", outcome.stdout, flags=re.MULTILINE)
    assert len(closing) == 1
    assert "1 failed, 10 passed" in closing[0]  # so notebooks have their marker, and test_two.py does not
    assert "FAILED notebooks/01_fails.ipynb" in outcome.stdout
    assert "IndexError" in outcome.stdout
    assert len(list(tmp_path.glob("gw*"))) == 1  # one worker ran the whole file


def test_papermill_runs_in_the_callers_folder_unless_told(tmp_path):
    import papermill

    source = "from pathlib import Path\nassert Path.cwd().name == 'notebooks', Path.cwd()"
    notebook = write_notebook(tmp_path / "notebooks" / "00_lesson.ipynb", source)
    with pytest.raises(papermill.PapermillExecutionError, match="AssertionError"):
        papermill.execute_notebook(notebook, tmp_path / "out.ipynb", cwd=tmp_path, progress_bar=False)
    run_notebook(notebook, tmp_path / "out.ipynb", {})
    assert read(tmp_path / "out.ipynb").failure is None


def test_an_expected_error_still_fails_with_papermill(tmp_path):
    """nbmake accepts a cell tagged raises-exception, papermill does not: the course's notebooks use try/except."""
    notebook = write_notebook(tmp_path / "00_lesson.ipynb", "1 / 0")
    content = nbformat.read(notebook, as_version=4)
    content.cells[0].metadata["tags"] = ["raises-exception"]
    nbformat.write(content, notebook)
    run_notebook(notebook, tmp_path / "out.ipynb", {})
    assert read(tmp_path / "out.ipynb").failure.error == "ZeroDivisionError: division by zero"
