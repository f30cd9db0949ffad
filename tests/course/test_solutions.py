"""The notebooks of solutions, cell by cell as a kernel runs them, but in this process, which has imported everything already."""

import nbformat
import pytest

from tools.notebooks import NOTEBOOKS

SOLUTIONS = sorted(NOTEBOOKS.glob("solutions/*.ipynb"))


@pytest.mark.notebooks
@pytest.mark.parametrize("path", SOLUTIONS, ids=lambda path: path.stem)
def test_every_answer_passes_its_check(path, monkeypatch, capsys):
    monkeypatch.chdir(path.parent)
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    names = {"__name__": "__main__"}
    for number, cell in enumerate(cells, start=1):
        exec(compile(cell.source, f"{path.name}, code cell {number}", "exec"), names)
    checks = sum(cell.source.count("exercises.check_") for cell in cells)
    assert capsys.readouterr().out.split("\n").count("right") == checks > 0


def test_every_chapter_has_solutions():
    assert [path.name for path in SOLUTIONS] == sorted(path.name for path in NOTEBOOKS.glob("0*.ipynb"))
