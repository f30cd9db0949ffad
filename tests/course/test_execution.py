import json

import pytest

from tests.course.test_runner import write_notebook
from vlsm_helpers.course.executed import read
from vlsm_helpers.course.execution import CellBar, run_notebook


@pytest.mark.notebooks
def test_each_code_cell_is_told_and_kernels_do_not_write_into_the_bar(tmp_path, capfd):
    write_notebook(tmp_path, "00_start", "1", "# a comment is a cell, too", "")
    told = []
    with CellBar("00_start") as bar:
        run_notebook(
            tmp_path / "00_start.ipynb",
            tmp_path / "out.ipynb",
            {},
            told=lambda *cells: told.append(cells) or bar.reach(*cells),
        )
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]
    shown = capfd.readouterr().err
    assert "00_start 100%" in shown
    assert "3/3 cells" in shown
    assert "WARNING" not in shown


def test_a_file_that_is_no_notebook_is_a_failure_among_others(tmp_path):
    (tmp_path / "00_broken.ipynb").write_text(json.dumps([]))
    executed = tmp_path / "out.ipynb"
    run_notebook(tmp_path / "00_broken.ipynb", executed, {})
    failure = read(executed).failure
    assert failure.cell == "before its first cell"
    assert "Error" in failure.error


def test_what_an_earlier_run_left_does_not_pass_for_this_ones(tmp_path, monkeypatch):
    write_notebook(tmp_path, "00_start")
    monkeypatch.setattr("papermill.execute_notebook", lambda *paths, **options: (_ for _ in ()).throw(OSError("full")))
    executed = tmp_path / "00_start.ipynb"
    run_notebook(tmp_path / "notebooks" / "00_start.ipynb", executed, {})
    found = read(executed)
    assert found.failure.error == "OSError: full"
    assert found.title == "00_start"  # not the earlier file's
