"""An executed notebook in a report's folder: how long it took, why it stopped, what it published and showed."""

import base64
import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import nbformat
import pandas as pd

from vlsm_helpers.course import results

STAMP = "vlsm_run"  # the notebook metadata that `stamp` writes
CSV_COLUMNS = ("notebook", *results.COLUMNS[:-1], "seconds", "hardware")


@dataclass(frozen=True)
class Failure:
    """Why a notebook stopped: its `cell` (such as In [5]), the first `line` of that, the `error` and its message."""

    cell: str
    line: str
    error: str

    def __str__(self) -> str:
        return f"{self.cell}{f': {self.line}' if self.line else ''}\n{self.error}"


@dataclass(frozen=True)
class Picture:
    """A PNG that a notebook shows; `alt` is the sentence for people who do not see it, if the notebook has one."""

    png: bytes
    alt: str
    is_headline: bool  # its cell is tagged `headline`


@dataclass(frozen=True)
class Executed:
    """An executed notebook in a report's folder."""

    path: Path
    title: str
    summary: str  # its first paragraph, without markup
    seconds: float
    finished: datetime
    failure: Failure | None
    results: pd.DataFrame  # CSV_COLUMNS
    pictures: list[Picture]  # in the notebook's order
    headline: Picture | None  # the one that stands for the notebook

    @property
    def name(self) -> str:
        return self.path.stem


def stamp(path: Path, seconds: float, failure: Failure | None) -> None:
    """Record on the executed notebook `path` how long it took and why it failed, if so (made if it is not there)."""
    notebook = nbformat.read(path, as_version=4) if path.exists() else nbformat.v4.new_notebook()
    notebook.metadata[STAMP] = {
        "seconds": round(seconds, 1),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "failure": None if failure is None else asdict(failure),
    }
    nbformat.write(notebook, path)


def read(path: Path) -> Executed:
    """What the executed and stamped notebook `path` has to say."""
    notebook = nbformat.read(path, as_version=4)
    run = notebook.metadata[STAMP]
    table = results.collect(path).assign(notebook=path.stem, seconds=run["seconds"])
    pictures = _pictures(notebook)
    return Executed(
        path=path,
        title=_title(notebook) or path.stem,
        summary=_summary(notebook),
        seconds=run["seconds"],
        finished=datetime.fromisoformat(run["finished"]),
        failure=None if run["failure"] is None else Failure(**run["failure"]),
        results=table[list(CSV_COLUMNS)],
        pictures=pictures,
        headline=([picture for picture in pictures if picture.is_headline] or pictures or [None])[-1],
    )


def is_stamped(path: Path) -> bool:
    """Whether a run of the course left the notebook `path`."""
    return STAMP in nbformat.read(path, as_version=4).metadata


def _title(notebook: nbformat.NotebookNode) -> str | None:
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    found = re.search(r"^# +(.+?) *$", text, flags=re.MULTILINE)
    return found and found[1]


def _summary(notebook: nbformat.NotebookNode) -> str:
    text = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    paragraphs = re.split(r"\n\s*\n", text.partition("# ")[2])[1:]  # after the title
    prose = next((words for words in paragraphs if re.match(r"[\w*`\"']", words)), "")
    return " ".join(re.sub(r"\[([^\]]*)\]\([^)]*\)|[*`]", r"\1", prose).split())


def _pictures(notebook: nbformat.NotebookNode) -> list[Picture]:
    return [
        Picture(
            png=base64.b64decode(output.data["image/png"]),
            alt=output.metadata.get("image/png", {}).get("alt", ""),
            is_headline="headline" in cell.metadata.get("tags", []),
        )
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
