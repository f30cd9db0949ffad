"""What a run of the course leaves behind, rebuilt from the executed notebooks in its folder.

FOLDER/NN_name.ipynb and .html, index.html (a card a notebook), results.csv (a row a score), pictures/.
"""

import base64
import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from html import escape
from pathlib import Path

import nbformat
import pandas as pd

from vlsm_helpers.course import results
from vlsm_helpers.course.index_page import index_page

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


def write(folder: Path) -> Path:
    """Rebuild index.html, results.csv, pictures/ and the HTML renderings of `folder` from its executed notebooks.

    All notebooks there appear, those of earlier runs too, so that the course can be run bit by bit. Returns the index.
    """
    executed = [read(path) for path in sorted(folder.glob("*.ipynb")) if STAMP in _metadata(path)]
    results_table(executed).to_csv(folder / "results.csv", index=False)
    for notebook in executed:
        _write_pictures(notebook, folder / "pictures")
        _write_rendering(notebook.path)
    index = folder / "index.html"
    index.write_text(index_page(executed), encoding="utf-8")
    return index


def results_table(executed: list[Executed]) -> pd.DataFrame:
    """The published rows of all these notebooks, with the columns of results.csv."""
    tables = [notebook.results for notebook in executed if len(notebook.results)]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=list(CSV_COLUMNS))


def _metadata(path: Path) -> dict:
    return nbformat.read(path, as_version=4).metadata


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


def _write_pictures(notebook: Executed, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for old in folder.glob(f"{notebook.name}-*.png"):
        old.unlink()
    for number, picture in enumerate(notebook.pictures, start=1):
        (folder / f"{notebook.name}-{number}.png").write_bytes(picture.png)


def _write_rendering(path: Path) -> None:
    """The notebook as one HTML file; links to other notebooks lead to their renderings."""
    rendering = path.with_suffix(".html")
    if rendering.exists() and rendering.stat().st_mtime > path.stat().st_mtime:
        return
    try:
        html = _as_html(path)
    except Exception as error:  # a picture that Markdown names and that is not there, say: the report goes on
        reason = escape(f"{type(error).__name__}: {error}")
        html = f'<p>The notebook could not be rendered ({reason}); open <a href="{path.name}">{path.name}</a>.</p>'
    rendering.write_text(html, encoding="utf-8")


def _as_html(path: Path) -> str:
    from nbconvert import HTMLExporter

    notebook = nbformat.read(path, as_version=4)
    source = notebook.metadata.get("papermill", {}).get("input_path", path)
    resources = {"metadata": {"name": path.stem, "path": str(Path(source).parent)}}
    html, _ = HTMLExporter(embed_images=True).from_notebook_node(notebook, resources=resources)
    return re.sub(r'href="([^":/]+)\.ipynb"', r'href="\1.html"', html)
