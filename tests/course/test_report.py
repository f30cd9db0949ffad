import base64
from datetime import datetime

import nbformat
import pandas as pd
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


def test_the_report_of_a_folder(tmp_path):
    executed(tmp_path, "00_start", cell((b"other", ""), (PIXEL, "a polyp")), cell(rows=[ROW]), title="Start & see")
    executed(tmp_path, "03_train", cell(), failure=Failure("In [4]", "fit(x < 3)", "ValueError: loss > 9"))
    index = report.write(tmp_path).read_text()
    assert index.count("<article") == 2
    for part in (
        "1 of 2 notebooks done",
        "Start &amp; see",
        'alt="a polyp"',
        "What a mask is, in code.",
        "75 s",
        "✓ done",
        "✗ failed",
        "Stopped: In [4]",
        "fit(x &lt; 3)",
        "ValueError: loss &gt; 9",
        "A &lt;i&gt;",
        "81.2 %",
        "79.0 % to 83.0 %",
        'href="00_start.html"',
        "not for clinical use",
    ):
        assert part in index, part
    assert (tmp_path / "pictures" / "00_start-2.png").read_bytes() == PIXEL
    assert (tmp_path / "pictures" / "00_start-1.png").read_bytes() == b"other"


def test_the_index_needs_no_other_file_and_no_network(tmp_path):
    executed(tmp_path, "00_start", cell((PIXEL, "white")))
    index = report.write(tmp_path).read_text()
    assert "data:image/png;base64," in index
    assert "prefers-color-scheme: dark" in index
    for outside in ("http://", "https://", "<link", "<script", "@import"):
        assert outside not in index


def test_results_csv_has_a_row_a_score_over_all_notebooks(tmp_path):
    executed(tmp_path, "00_start", cell(rows=[ROW]))
    executed(tmp_path, "03_train", cell(rows=[ROW | {"metric": "hd95", "value": None, "low": None, "high": None}]))
    report.write(tmp_path)
    table = pd.read_csv(tmp_path / "results.csv")
    header = "notebook profile dataset split model metric value low high n seed seconds hardware"
    assert list(table.columns) == header.split()
    assert table["notebook"].tolist() == ["00_start", "03_train"]
    assert table["value"][0] == 0.8121
    assert table["value"].isna()[1]


def test_results_csv_without_results_has_its_columns(tmp_path):
    executed(tmp_path, "00_start", cell())
    report.write(tmp_path)
    assert list(pd.read_csv(tmp_path / "results.csv").columns) == list(runs.CSV_COLUMNS)


def test_a_later_report_forgets_the_pictures_of_an_earlier_run(tmp_path):
    executed(tmp_path, "00_start", cell((PIXEL, ""), (PIXEL, "")))
    report.write(tmp_path)
    executed(tmp_path, "00_start", cell((PIXEL, "")))
    report.write(tmp_path)
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["00_start-1.png"]


def test_renderings_show_the_outputs_and_lead_to_one_another(tmp_path):
    link = new_markdown_cell("[on](03_train.ipynb) [away](https://example.org/a.ipynb)")
    executed(tmp_path, "00_start", link, cell(rows=[ROW]))
    report.write(tmp_path)
    html = (tmp_path / "00_start.html").read_text()
    assert 'href="03_train.html"' in html
    assert 'href="https://example.org/a.ipynb"' in html
    assert "<pre>table</pre>" in html


def test_a_notebook_that_cannot_be_rendered_does_not_take_the_report_along(tmp_path):
    executed(tmp_path, "00_start", new_markdown_cell("![gone](attachment:gone.png)"))
    executed(tmp_path, "03_train", cell(rows=[ROW]))
    assert report.write(tmp_path).read_text().count("<article") == 2
    assert "missing attachment: gone.png" in (tmp_path / "00_start.html").read_text()
    assert "<pre>table</pre>" in (tmp_path / "03_train.html").read_text()


def test_a_card_compares_models_by_one_metric(tmp_path):
    rows = [ROW | {"model": model, "metric": metric} for model in "ABCDE" for metric in ("dice", "iou")]
    executed(tmp_path, "00_start", cell(rows=rows))
    card = report.write(tmp_path).read_text().partition("<article")[2].partition("</article>")[0]
    assert card.count("<td>dice</td>") == 4
    assert "iou" not in card
    assert "and 6 more" in card


@pytest.mark.parametrize("seconds", [0.4, 3600])
def test_a_notebook_that_never_came_to_be_is_stamped_all_the_same(tmp_path, seconds):
    path = tmp_path / "05_gone.ipynb"
    runs.stamp(path, seconds, Failure("before its first cell", "", "NotJSONError"))
    read = runs.read(path)
    assert (read.title, read.seconds, read.results.empty) == ("05_gone", seconds, True)
    assert "before its first cell" in report.write(tmp_path).read_text()
