import tomllib

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from tools.notebooks import NOTEBOOKS, PROJECT
from vlsm_helpers.widgets import display, export


def with_output(text, **data):
    output = new_output("display_data", data={"text/plain": text, "image/png": "", **data})
    return new_notebook(cells=[new_code_cell("explorer", outputs=[output])])


@pytest.fixture(scope="module")
def chapter():
    return nbformat.read(NOTEBOOKS / "05_late_fusion.ipynb", as_version=4)


def explorers(notebook):
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [output for output in outputs if "vlsm-explorer" in output.get("data", {}).get("text/html", "")]


def test_the_chapters_explorer_moves_and_the_notebook_stays_as_it_is(chapter):
    before = nbformat.writes(chapter)
    [found] = explorers(export.with_explorers(chapter))
    assert list(found.data) == ["text/html"]
    assert nbformat.writes(chapter) == before


def test_a_live_widget_gives_way_to_it(chapter):
    [text] = [
        output.data["text/plain"]
        for cell in chapter.cells
        for output in cell.get("outputs", [])
        if output.get("data", {}).get("text/plain", "").startswith(export.TEXT_START)
    ]
    page, _ = export.ExplorableHTML().from_notebook_node(with_output(text, **{display.WIDGET_VIEW: {"model_id": "1"}}))
    assert 'class="vlsm-explorer"' in page
    assert "model_id" not in page


@pytest.mark.parametrize("text", ["[Dice 0.123 of 1.00 mine. While a kernel runs, this shows ...]", "something else"])
def test_explorers_of_other_members_and_other_outputs_stay(text):
    notebook = with_output(text)
    assert export.with_explorers(notebook) == notebook


def test_nbconvert_knows_the_exporter_by_name():
    points = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["entry-points"]["nbconvert.exporters"]
    assert points == {"vlsm_html": f"{export.__name__}:{export.ExplorableHTML.__name__}"}
