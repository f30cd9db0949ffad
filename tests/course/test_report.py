import pandas as pd
from nbformat.v4 import new_markdown_cell

from tests.course.test_executed import PIXEL, ROW, cell, executed
from vlsm_helpers.course import executed as runs
from vlsm_helpers.course import report
from vlsm_helpers.course.executed import Failure


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
