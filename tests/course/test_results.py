import json

import nbformat
import numpy as np
import pandas as pd
import pytest

from vlsm_helpers.course.results import COLUMNS, MIME_TYPE, _Published, collect, publish, readable
from vlsm_helpers.errors import CourseError
from vlsm_helpers.settings import Settings
from vlsm_helpers.settings.profiles import PROFILES

SETTINGS = Settings(PROFILES["tiny"], "for a test", "phantom_skin", seed=5, device="cpu", hardware="a toaster")
ROW = {"model": "UNet-D", "split": "test", "metric": "dice", "value": 0.7513, "low": 0.73, "high": 0.77, "n": 100}


def table(*rows, **changes):
    return pd.DataFrame([{**ROW, **row, **changes} for row in rows or ({},)])


def shown(monkeypatch, published, settings=SETTINGS):
    """The mime bundle that a notebook would keep."""
    kept = []
    monkeypatch.setattr("IPython.display.display", kept.append)
    publish(published, settings)
    return kept[0]._repr_mimebundle_()


def as_notebook(path, *bundles):
    outputs = [nbformat.v4.new_output("display_data", data=bundle) for bundle in bundles]
    cells = [nbformat.v4.new_markdown_cell("# T"), nbformat.v4.new_code_cell("publish()", outputs=outputs)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


def test_rows_come_back_from_the_notebook_as_they_went_in(monkeypatch, tmp_path):
    value = 1 / 3
    first = shown(
        monkeypatch, table({"value": value, "low": 0.3, "high": 0.4}, {"metric": "iou", "value": 0.8, "high": 1})
    )
    second = shown(monkeypatch, table(metric="hd95", value=12.345, low=np.nan, high=np.nan, n=97))
    rows = collect(as_notebook(tmp_path / "a.ipynb", first, {"text/plain": "something else"}, second))
    assert list(rows.columns) == list(COLUMNS)
    assert rows["value"].tolist() == pytest.approx([value, 0.8, 12.345], abs=1e-14)
    assert rows["n"].tolist() == [100, 100, 97]
    assert rows["low"].isna().tolist() == [False, False, True]
    assert set(rows["hardware"]) == {"a toaster"}
    assert (rows["dataset"][0], rows["profile"][0], rows["seed"][0]) == ("phantom_skin", "tiny", 5)


def test_what_the_table_says_wins_over_the_settings(monkeypatch):
    row = shown(monkeypatch, table(dataset="busi", seed=9))[MIME_TYPE][0]
    assert (row["dataset"], row["seed"], row["profile"]) == ("busi", 9, "tiny")


def test_a_reader_sees_percentages_and_a_program_fractions(monkeypatch):
    bundle = shown(monkeypatch, table())
    assert "75.1 %" in bundle["text/plain"]
    assert "<td>75.1 %</td>" in bundle["text/html"]
    assert bundle[MIME_TYPE][0]["value"] == 0.7513
    json.dumps(bundle, allow_nan=False)  # else the notebook cannot be saved


def test_text_of_scores():
    rows = table(
        {}, {"metric": "nsd, lesion only"}, {"metric": "hd95", "value": 12.345, "low": np.nan}, {"metric": "IoU"}
    )
    text = readable(rows)
    assert text["value"].tolist() == ["75.1 %", "75.1 %", "12.3", "75.1 %"]
    assert text["low"].tolist() == ["73.0 %", "73.0 %", "–", "73.0 %"]


def test_markup_in_a_model_name_is_only_text(monkeypatch):
    assert "<b>" not in shown(monkeypatch, table(model="<b>A</b>"))["text/html"]


def test_in_plain_python_the_table_is_printed(capsys):
    publish(table(), SETTINGS)
    assert "UNet-D  test   dice 75.1 %" in capsys.readouterr().out


def test_a_notebook_that_publishes_nothing_has_no_rows(tmp_path):
    rows = collect(as_notebook(tmp_path / "a.ipynb"))
    assert rows.empty
    assert list(rows.columns) == list(COLUMNS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"value": 75.1, "low": 73.0, "high": 77.0}, "outside 0 to 1.*not percentages"),
        ({"value": 0.99, "high": 1.01}, "outside 0 to 1"),
        ({"value": "good"}, "column value has entries that are no numbers"),
        ({"low": 0.76}, "outside its interval"),
        ({"high": 0.7}, "outside its interval"),
        ({"metric": "hd95", "value": np.inf, "high": np.nan}, "infinite"),
        ({"n": 1.5}, "no counts"),
        ({"n": np.nan}, "no counts"),
        ({"split": "validation"}, "split has validation.*train, val, test"),
        ({"model": ""}, "column model"),
        ({"metric": 3}, "column metric"),
        ({"score": 1}, "it has score"),
    ],
)
def test_a_table_that_cannot_be_right_is_refused(changes, message):
    with pytest.raises(CourseError, match=f"(?s){message}"):
        publish(table(**changes), SETTINGS)


def test_a_missing_column_is_named():
    with pytest.raises(CourseError, match="it lacks low, n"):
        publish(table().drop(columns=["low", "n"]), SETTINGS)


def test_an_empty_table_is_refused():
    with pytest.raises(CourseError, match="no rows"):
        publish(table().iloc[:0], SETTINGS)


def test_an_interval_may_miss_its_mean_by_rounding():
    assert "90.0 %" in repr(_Published(table(value=0.9, low=0.9, high=0.9)))
    publish(table(value=0.9, low=0.9 + 1e-12, high=0.95), SETTINGS)
