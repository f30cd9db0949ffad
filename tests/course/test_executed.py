import base64
from datetime import datetime

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from vlsm_helpers.course import executed as runs
from vlsm_helpers.course import report
from vlsm_helpers.course.executed import Failure
from vlsm_helpers.course.results import COLUMNS, MIME_TYPE

ROW = dict(zip(COLUMNS, ("tiny", "busi", "test", "A <i>", "dice", 0.8121, 0.79, 0.83, 78, 0, "a toaster"), strict=True))


PIXEL = base64.b64decode(  # a PNG of one white pixel
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGP4DwABAQEAsTj2FAAAAABJRU5ErkJggg=="
)


def cell(*pictures, rows=(), tag=None):
    """An executed code cell that shows these PNGs and published these rows."""
    outputs = [
        new_output(
            "display_data", data={"image/png": base64.b64encode(png).decode()}, metadata={"image/png": {"alt": alt}}
        )
        for png, alt in pictures
    ]
    outputs += [new_output("display_data", data={MIME_TYPE: list(rows), "text/plain": "table"})] * bool(rows)
    return new_code_cell("show()", outputs=outputs, metadata={"tags": [tag]} if tag else {})


def executed(folder, name, *cells, seconds=75.2, failure=None, title="A title"):
    path = folder / f"{name}.ipynb"
    opening = f"# {title}\n\n![it](attachment:it.png)\n\n**What** a [mask](m.html) is,\nin `code`.\n\n## part\n\nmore"
    attachments = {"it.png": {"image/png": base64.b64encode(PIXEL).decode()}}
    nbformat.write(new_notebook(cells=[new_markdown_cell(opening, attachments=attachments), *cells]), path)
    runs.stamp(path, seconds, failure)
    return path


def test_reading_an_executed_notebook(tmp_path):
    failure = Failure("In [4]", "fit()", "ValueError: no")
    path = executed(tmp_path, "03_train", cell((PIXEL, "white")), cell(rows=[ROW, ROW]), failure=failure)
    read = runs.read(path)
    assert read.summary == "What a mask is, in code."
    assert (read.name, read.title, read.seconds, read.failure) == ("03_train", "A title", 75.2, failure)
    assert abs((read.finished - datetime.now(read.finished.tzinfo)).total_seconds()) < 60
    assert list(read.results.columns) == list(runs.CSV_COLUMNS)
    assert read.results["seconds"].tolist() == [75.2, 75.2]


def test_the_headline_is_the_tagged_picture_else_the_last(tmp_path):
    first, second = (PIXEL, "first"), (PIXEL, "second")
    tagged = executed(tmp_path, "1", cell(first, tag="headline"), cell(second))
    untagged = executed(tmp_path, "2", cell(first), cell(second))
    without = executed(tmp_path, "3", cell())
    assert runs.read(tagged).headline.alt == "first"
    assert runs.read(untagged).headline.alt == "second"
    assert runs.read(without).headline is None


@pytest.mark.parametrize("seconds", [0.4, 3600])
def test_a_notebook_that_never_came_to_be_is_stamped_all_the_same(tmp_path, seconds):
    path = tmp_path / "05_gone.ipynb"
    runs.stamp(path, seconds, Failure("before its first cell", "", "NotJSONError"))
    read = runs.read(path)
    assert (read.title, read.seconds, read.results.empty) == ("05_gone", seconds, True)
    assert "before its first cell" in report.write(tmp_path).read_text()
