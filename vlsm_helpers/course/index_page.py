"""The report's front page: one card per notebook, then every result; one self-contained HTML file for light and dark."""

import base64
from collections.abc import Iterator

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from vlsm_helpers import __version__
from vlsm_helpers.course import results
from vlsm_helpers.course.executed import Executed

TEMPLATE = "index.html.j2"
COLUMNS = ("notebook", "profile", "dataset", "split", "model", "metric")


def index_page(executed: list[Executed]) -> str:
    """The page as HTML. Pictures are embedded; each card links to NAME.html in the same folder."""
    environment = Environment(
        loader=PackageLoader("vlsm_helpers.course", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {"base64": _base64, "duration": duration, "first_metric": _first_metric}
    tables = [notebook.results for notebook in executed if len(notebook.results)]
    rows = list(_rows(pd.concat(tables, ignore_index=True))) if tables else []
    return environment.get_template(TEMPLATE).render(
        executed=executed, facts=list(_facts(executed)), columns=COLUMNS, rows=rows, version=__version__
    )


def duration(seconds: float) -> str:
    """Seconds up to a minute and a half, then minutes."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.1f} min"


def bar(metric: str, value: float, low: float, high: float) -> tuple[str, str, str] | None:
    """Where the low end, the value and the high end of a fraction are drawn, in percent; None for other metrics."""
    if not metric.lower().startswith(results.FRACTIONS) or pd.isna(value):
        return None
    low, high = (value if pd.isna(end) else end for end in (low, high))
    return f"{low:.1%}", f"{value:.1%}", f"{high:.1%}"


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _facts(executed: list[Executed]) -> Iterator[str]:
    done = sum(notebook.failure is None for notebook in executed)
    yield f"{done} of {len(executed)} notebooks done"
    yield f"{duration(sum(notebook.seconds for notebook in executed))} in total"
    if executed:
        yield f"{max(notebook.finished for notebook in executed):%d %B %Y, %H:%M} UTC"
    rows = pd.concat([notebook.results for notebook in executed]) if executed else pd.DataFrame()
    for name, title in (("profile", "{} profile"), ("dataset", "{}"), ("hardware", "{}")):
        for value in rows.get(name, pd.Series(dtype=str)).unique():
            yield title.format(value)


def _first_metric(table: pd.DataFrame) -> list[dict]:
    """The results of the first metric, as text."""
    return results.readable(table[table["metric"] == table["metric"].iloc[0]]).to_dict("records") if len(table) else []


def _rows(table: pd.DataFrame) -> Iterator[dict]:
    """All results as text, each with its bar."""
    for text, score in zip(results.readable(table).to_dict("records"), table.itertuples(), strict=True):
        yield text | {"bar": bar(score.metric, score.value, score.low, score.high)}
