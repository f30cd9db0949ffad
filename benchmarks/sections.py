"""The measurements of a benchmark by section, as JSON and Markdown: each section with when and on what it was measured."""

import json
import os
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from vlsm_helpers import settings


def read(path: Path) -> dict[str, dict]:
    """The sections in a file of `keep`; none where there is no file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def keep(path: Path, section: str, rows: list[dict], rounds: int, order: Iterable[str]) -> str:
    """Store a section in `path` and, as Markdown, next to it, in place of an older one; returns its Markdown.

    `order`: the names of all sections; those that it lacks are dropped.
    """
    found = read(path) | {section: conditions() | {"rounds": rounds, "rows": rows}}
    ordered = {name: found[name] for name in order if name in found}
    path.write_text(json.dumps(ordered, indent=1) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(table(ordered), encoding="utf-8")
    return table({section: ordered[section]})


def conditions() -> dict[str, str]:
    """When, on what, and beside how much other work a section is measured."""
    load = f"load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "load unknown"  # of the last minute
    day = datetime.now(UTC).strftime("%Y-%m-%d")
    return {"hardware": f"{settings.hardware()}, {load}", "day": day, "versions": settings.versions()}


def table(found: dict[str, dict]) -> str:
    """Markdown: one table per section, with its hardware."""
    lines = []
    for section, measured in found.items():
        lines += [
            f"## {section}",
            "",
            "; ".join(measured[part] for part in ("day", "hardware", "versions") if part in measured)
            + f"; {measured['rounds']} rounds.",
            "",
        ]
        lines += [
            "| what | way | median | fastest to slowest | times as fast | GFLOP | of the limit | peak memory | wanted |",
            "|---" * 9 + "|",
        ]
        for row in measured["rows"]:
            seconds = _seconds(row.get("seconds"))
            spread = f"{_seconds(row['fastest'])} to {_seconds(row['slowest'])}" if "fastest" in row else ""
            times = f"{row['times']:.2f}" if "times" in row else ""
            gigabytes = f"{row['gigabytes']:.2f} GB" if "gigabytes" in row else ""
            work = f"{row['gigaflop']:.3g}" if "gigaflop" in row else ""
            share = f"{row['share']:.0%}" if "share" in row else ""
            cells = [row["what"], row["way"], seconds, spread, times, work, share, gigabytes, row.get("wanted", "")]
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def _seconds(value: float | None) -> str:
    if value is None or pd.isna(value):
        return ""
    return f"{1000 * value:.1f} ms" if value < 1 else f"{value:.2f} s"
