"""How a notebook hands over its results: a table to read that carries its own rows, for whoever ran the notebook."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from vlsm_helpers.errors import CourseError
from vlsm_helpers.settings import Settings

MIME_TYPE = "application/vnd.vlsm.results+json"
GIVEN = ("model", "split", "metric", "value", "low", "high", "n")  # a notebook's table must have these
DEFAULTED = ("dataset", "profile", "seed")  # and may have these; else they come from its settings
DROPPED = ("left_out",)  # of `scoring.summarise`: why images are not in `n`
COLUMNS = ("profile", "dataset", "split", "model", "metric", "value", "low", "high", "n", "seed", "hardware")
FRACTIONS = ("dice", "iou", "nsd")  # metrics from 0 to 1, shown as percentages
SPLITS = ("train", "val", "test")
ROUNDING = 1e-6  # a mean and the ends of its bootstrap interval are summed in different orders


def publish(table: pd.DataFrame, settings: Settings) -> None:
    """Show `table` in the notebook, with its rows carried along in the same output for `collect`.

    A row is one score: `model`, `split` (train, val or test), `metric` (dice, iou, nsd: fractions; hd95: pixels; ...),
    `value` with its interval `low` to `high` (NaN where there is none), over `n` images. `dataset`, `profile`, `seed`
    are those of `settings` unless the table has them. Raises CourseError, naming the column, for anything else.
    """
    from IPython.display import display

    display(_Published(_completed(table, settings)))


def collect(notebook: Path) -> pd.DataFrame:
    """The rows (COLUMNS) that an executed notebook published, in its order; no rows where it published none."""
    import nbformat

    cells = nbformat.read(notebook, as_version=4).cells
    bundles = [output.get("data", {}) for cell in cells for output in cell.get("outputs", [])]
    rows = [row for bundle in bundles for row in bundle.get(MIME_TYPE, [])]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({name: float for name in ("value", "low", "high")})


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """`table` as text: fractions as percentages with one decimal, others with three digits, a dash for nothing."""
    text = table.astype(object).where(table.notna(), "–").astype(str)
    for name in ("value", "low", "high"):
        text[name] = [_as_text(*pair) for pair in zip(table["metric"], table[name], strict=True)]
    return text


def _as_text(metric: str, score: float) -> str:
    if pd.isna(score):
        return "–"
    return f"{100 * score:.1f} %" if metric.lower().startswith(FRACTIONS) else f"{score:.3g}"


class _Published:
    """What a notebook displays: the table for people (HTML, text) and its rows for programs (JSON)."""

    def __init__(self, rows: pd.DataFrame):
        self.rows = rows

    def __repr__(self) -> str:
        return readable(self.rows[list(GIVEN)]).to_string(index=False)

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        return {
            "text/plain": repr(self),
            "text/html": readable(self.rows[list(GIVEN)]).to_html(index=False, border=0),
            MIME_TYPE: json.loads(self.rows.to_json(orient="records", double_precision=15)),  # NaN becomes null
        }


def _completed(table: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """The rows with all COLUMNS, checked."""
    missing = [name for name in GIVEN if name not in table.columns]
    unknown = [str(name) for name in table.columns if name not in GIVEN + DEFAULTED + DROPPED]
    if missing or unknown:
        parts = [f"it lacks {', '.join(missing)}"] * bool(missing) + [f"it has {', '.join(unknown)}"] * bool(unknown)
        raise _unusable(f"{' and '.join(parts)}", f"give the columns {', '.join(GIVEN)}; also {', '.join(DEFAULTED)}")
    if table.empty:
        raise _unusable("it has no rows", "publish at least one score")
    defaults = {"dataset": settings.dataset, "profile": settings.profile.name, "seed": settings.seed}
    rows = table.reset_index(drop=True).assign(
        **{name: value for name, value in defaults.items() if name not in table.columns}, hardware=settings.hardware
    )
    _check_names(rows)
    rows = rows.assign(**{name: _numbers(rows, name) for name in ("value", "low", "high", "n")})
    _check_scores(rows)
    return rows.astype({"n": int})[list(COLUMNS)]


def _check_names(rows: pd.DataFrame) -> None:
    for name in ("model", "metric"):
        if not all(isinstance(entry, str) and entry for entry in rows[name]):
            raise _unusable(f"the column {name} has entries that are no names", "give every row a name there")
    wrong = sorted(set(map(str, rows["split"])) - set(SPLITS))
    if wrong:
        raise _unusable(f"the column split has {', '.join(wrong)}", f"use {', '.join(SPLITS)}")


def _check_scores(rows: pd.DataFrame) -> None:
    scores = rows[["value", "low", "high"]]
    if np.isinf(scores).to_numpy().any():
        raise _unusable(
            "a score is infinite", "leave it missing (NaN) where it is undefined, and count those images apart"
        )
    fractions = scores[rows["metric"].str.lower().str.startswith(FRACTIONS)]
    if ((fractions < 0) | (fractions > 1)).to_numpy().any():
        raise _unusable(f"a score of {', '.join(FRACTIONS)} is outside 0 to 1", "give fractions, not percentages")
    if ((scores["low"] > scores["value"] + ROUNDING) | (scores["high"] < scores["value"] - ROUNDING)).any():
        raise _unusable("a value lies outside its interval", "check low and high")
    if rows["n"].isna().any() or (rows["n"] < 0).any() or (rows["n"] % 1 != 0).any():
        raise _unusable("the column n has entries that are no counts", "give the number of images of every score")


def _numbers(rows: pd.DataFrame, name: str) -> pd.Series:
    try:
        return pd.to_numeric(rows[name]).astype(float)
    except (ValueError, TypeError):
        raise _unusable(f"the column {name} has entries that are no numbers", "give numbers there") from None


def _unusable(what: str, hint: str) -> CourseError:
    return CourseError(f"The results table cannot be published: {what}.", hint=f"{hint}.")
