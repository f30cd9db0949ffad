"""The report's front page: a card a notebook, then every result; one self-contained HTML file for light and dark."""

import base64
from collections.abc import Iterable
from html import escape

import pandas as pd

from vlsm_helpers import __version__
from vlsm_helpers.course import results
from vlsm_helpers.course.executed import Executed

ROWS_ON_A_CARD = 4

STYLE = """
:root { color-scheme: light dark; --page: #f5f6f8; --card: #fff; --ink: #1d2433; --soft: #5d6679; --line: #e1e5ec;
  --accent: #0b7285; --good: #1a7f4b; --good-bg: #e3f6ea; --bad: #b3261e; --bad-bg: #fdecea; }
@media (prefers-color-scheme: dark) { :root { --page: #12151b; --card: #1b2029; --ink: #e8ebf1; --soft: #9aa4b7;
  --line: #2d3441; --accent: #5cc8d8; --good: #6fd79b; --good-bg: #17352a; --bad: #ff9d94; --bad-bg: #40201f; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 48px 24px 32px; }
h1 { font-size: 2.1rem; line-height: 1.2; margin: 0 0 4px; letter-spacing: -.02em; }
h2 { font-size: 1.35rem; margin: 48px 0 12px; }
h3 { font-size: 1.08rem; line-height: 1.3; margin: 0; }
p { margin: 0; } a { color: var(--accent); }
.lead, .facts, footer, .minutes, .number { color: var(--soft); }
.facts { display: flex; flex-wrap: wrap; gap: 8px; margin: 18px 0 30px; padding: 0; list-style: none;
  font-size: .9rem; }
.facts li { background: var(--card); border: 1px solid var(--line); border-radius: 99px; padding: 3px 13px; }
.cards { display: grid; gap: 22px; grid-template-columns: repeat(auto-fill, minmax(min(340px, 100%), 1fr)); }
.card { display: flex; flex-direction: column; background: var(--card); border: 1px solid var(--line);
  border-radius: 14px; overflow: hidden; box-shadow: 0 1px 3px rgb(0 0 0 / .06); }
.card > a { display: block; color: inherit; text-decoration: none; }
.picture { display: flex; height: 210px; align-items: center; justify-content: center; background: #fff;
  border-bottom: 1px solid var(--line); }
.picture img { max-width: 100%; max-height: 100%; padding: 10px; }
.picture.none { background: linear-gradient(135deg, var(--page), var(--line)); color: var(--soft); font-size: 3.2rem;
  font-weight: 700; letter-spacing: -.03em; }
.body { display: flex; flex: 1; flex-direction: column; gap: 12px; padding: 16px 18px; }
.status { display: flex; align-items: center; gap: 10px; font-size: .85rem; }
.pill { border-radius: 99px; padding: 2px 11px; font-weight: 600; color: var(--good); background: var(--good-bg); }
.pill.failed { color: var(--bad); background: var(--bad-bg); }
.number { margin-left: auto; font-variant-numeric: tabular-nums; }
.summary { color: var(--soft); font-size: .92rem; } .summary:empty { display: none; }
.more { font-size: .86rem; color: var(--soft); } .wide + .more { margin-top: 10px; }
.read { margin-top: auto; font-size: .92rem; font-weight: 600; }
.error { background: var(--bad-bg); border-radius: 9px; padding: 10px 12px; font-size: .85rem; }
.error b { color: var(--bad); }
.error pre, .error code { margin: 4px 0 0; white-space: pre-wrap; overflow-wrap: anywhere;
  font: .82rem/1.45 ui-monospace, "SF Mono", Menlo, "DejaVu Sans Mono", monospace; }
.wide { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: 14px;
  padding: 6px 14px; }
table { border-collapse: collapse; width: 100%; font-size: .86rem; font-variant-numeric: tabular-nums; }
th { color: var(--soft); font-weight: 600; text-align: left; }
th, td { padding: 6px 10px 6px 0; border-bottom: 1px solid var(--line); }
.wide td, .wide th { white-space: nowrap; padding-right: 16px; }
tbody tr:last-child td { border-bottom: 0; }
.score, th.score { text-align: right; } .score { font-weight: 600; white-space: nowrap; }
.bar { position: relative; display: block; width: 130px; height: 8px; border-radius: 4px; background: var(--line); }
.bar i { position: absolute; inset: 0 auto 0 var(--low); width: calc(var(--high) - var(--low)); min-width: 2px;
  border-radius: 4px; background: var(--accent); opacity: .5; }
.bar b { position: absolute; left: calc(var(--value) - 2px); top: -2px; width: 4px; height: 12px; border-radius: 2px;
  background: var(--accent); }
footer { margin-top: 40px; font-size: .85rem; }
"""


def index_page(executed: list[Executed]) -> str:
    """The whole page. Pictures are embedded; each card links to NAME.html beside the page."""
    cards = "\n".join(_card(notebook) for notebook in executed)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>VLSM-Ensemble, step by step: results</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<h1>VLSM-Ensemble, step by step</h1>
<p class="lead">Segmenting medical images with CLIP-like models, and making them better by ensembling.</p>
<ul class="facts">{"".join(f"<li>{escape(fact)}</li>" for fact in _facts(executed))}</ul>
<div class="cards">
{cards}
</div>
{_all_results(executed)}
<footer>Written by <code>vlsm run</code>, vlsm-helpers {escape(__version__)}.
For teaching and research, not for clinical use.</footer>
</main>
</body>
</html>
"""


def _facts(executed: list[Executed]) -> Iterable[str]:
    done = sum(notebook.failure is None for notebook in executed)
    yield f"{done} of {len(executed)} notebooks done"
    yield f"{_duration(sum(notebook.seconds for notebook in executed))} in all"
    if executed:
        yield f"{max(notebook.finished for notebook in executed):%d %B %Y, %H:%M} UTC"
    rows = pd.concat([notebook.results for notebook in executed]) if executed else pd.DataFrame()
    for name, title in (("profile", "{} profile"), ("dataset", "{}"), ("hardware", "{}")):
        for value in rows.get(name, pd.Series(dtype=str)).unique():
            yield title.format(value)


def _card(notebook: Executed) -> str:
    status = (
        '<span class="pill">✓ done</span>' if notebook.failure is None else '<span class="pill failed">✗ failed</span>'
    )
    number = notebook.name.partition("_")[0]
    return f"""<article class="card" id="{escape(notebook.name)}">
<a href="{escape(notebook.name)}.html">{_picture(notebook, number)}</a>
<div class="body">
<div class="status">{status}<span class="minutes">{_duration(notebook.seconds)}</span>
<span class="number">{escape(notebook.name)}</span></div>
<h3>{escape(notebook.title)}</h3>
<p class="summary">{escape(notebook.summary)}</p>
{_error(notebook)}{_scores(notebook.results)}
<a class="read" href="{escape(notebook.name)}.html">Read the notebook →</a>
</div>
</article>"""


def _picture(notebook: Executed, number: str) -> str:
    if notebook.headline is None:
        return f'<div class="picture none" aria-hidden="true">{escape(number)}</div>'
    data = base64.b64encode(notebook.headline.png).decode()
    alt = escape(notebook.headline.alt or f"Main figure of the notebook {notebook.title}")
    return f'<div class="picture"><img alt="{alt}" src="data:image/png;base64,{data}"></div>'


def _error(notebook: Executed) -> str:
    if notebook.failure is None:
        return ""
    failure = notebook.failure
    line = f"<br><code>{escape(failure.line)}</code>" if failure.line else ""
    return f'<div class="error"><b>Stopped: {escape(failure.cell)}</b>{line}<pre>{escape(failure.error)}</pre></div>\n'


def _scores(table: pd.DataFrame) -> str:
    """The first few results, for a card, all of one metric."""
    if table.empty:
        return ""
    shown = results.readable(table[table["metric"] == table["metric"].iloc[0]]).head(ROWS_ON_A_CARD)
    rows = "".join(
        f'<tr><td>{escape(row.model)}</td><td>{escape(row.metric)}</td><td class="score">{escape(row.value)}</td></tr>'
        for row in shown.itertuples()
    )
    more = len(table) - len(shown)
    rest = f'<p class="more"><a href="#results">and {more} more</a></p>' if more else ""
    return f"<table><tbody>{rows}</tbody></table>{rest}"


def _all_results(executed: list[Executed]) -> str:
    tables = [notebook.results for notebook in executed if len(notebook.results)]
    if not tables:
        return ""
    table = pd.concat(tables, ignore_index=True)
    names = ("notebook", "profile", "dataset", "split", "model", "metric")
    head = "".join(f"<th>{name}</th>" for name in names)
    rows = "\n".join(
        f"<tr>{''.join(f'<td>{escape(getattr(text, name))}</td>' for name in names)}"
        f'<td class="score">{escape(text.value)}</td><td>{_bar(score)}</td>'
        f"<td>{escape(_interval(text))}</td><td>{escape(text.n)}</td></tr>"
        for text, score in zip(results.readable(table).itertuples(), table.itertuples(), strict=True)
    )
    return f"""<h2 id="results">Results</h2>
<div class="wide"><table>
<thead><tr>{head}<th class="score">value</th><th></th><th>interval</th><th>images</th></tr></thead>
<tbody>
{rows}
</tbody>
</table></div>
<p class="more">The same rows are in <a href="results.csv">results.csv</a>.</p>"""


def _interval(text: tuple) -> str:
    return "–" if text.low == text.high == "–" else f"{text.low} to {text.high}"


def _bar(score: tuple) -> str:
    """Value and interval on a line from 0 to 100 %, for metrics that have these ends."""
    if not score.metric.lower().startswith(results.FRACTIONS) or pd.isna(score.value):
        return ""
    low, high = (score.value if pd.isna(end) else end for end in (score.low, score.high))
    return (
        f'<span class="bar" style="--low:{low:.1%};--high:{high:.1%};--value:{score.value:.1%}"><i></i><b></b></span>'
    )


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.1f} min"
