"""What a run of the course leaves behind, rebuilt from the executed notebooks in its folder.

FOLDER/NN_name.ipynb and .html, index.html (one card per notebook), results.csv (one row per score), pictures/.
"""

import re
from html import escape
from pathlib import Path

import nbformat
import pandas as pd

from vlsm_helpers.course.executed import CSV_COLUMNS, Executed, is_stamped, read
from vlsm_helpers.course.index_page import index_page

HTML = "html"  # nbconvert's name of its own exporter


def write(folder: Path, exporter: str = HTML) -> Path:
    """Rebuild index.html, results.csv, pictures/ and the HTML renderings of `folder` from its executed notebooks.

    All notebooks there appear, those of earlier runs too, so that the course can be run bit by bit. `exporter` renders them:
    its name in nbconvert, or where to import it. Returns the index.
    """
    executed = [read(path) for path in sorted(folder.glob("*.ipynb")) if is_stamped(path)]
    results_table(executed).to_csv(folder / "results.csv", index=False)
    for notebook in executed:
        _write_pictures(notebook, folder / "pictures")
        render(notebook.path, exporter)
    index = folder / "index.html"
    index.write_text(index_page(executed), encoding="utf-8")
    return index


def results_table(executed: list[Executed]) -> pd.DataFrame:
    """The published rows of all these notebooks, with the columns of results.csv."""
    tables = [notebook.results for notebook in executed if len(notebook.results)]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=list(CSV_COLUMNS))


def render(path: Path, exporter: str = HTML) -> None:
    """Write the executed notebook `path` as one HTML file beside it, unless that is newer; links lead to other renderings."""
    rendering = path.with_suffix(".html")
    if rendering.exists() and rendering.stat().st_mtime > path.stat().st_mtime:
        return
    try:
        html = _as_html(path, exporter)
    except Exception as error:  # a picture that Markdown names and that is not there, say: the report goes on
        reason = escape(f"{type(error).__name__}: {error}")
        html = f'<p>The notebook could not be rendered ({reason}); open <a href="{path.name}">{path.name}</a>.</p>'
    rendering.write_text(html, encoding="utf-8")


def _write_pictures(notebook: Executed, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for old in folder.glob(f"{notebook.name}-*.png"):
        old.unlink()
    for number, picture in enumerate(notebook.pictures, start=1):
        (folder / f"{notebook.name}-{number}.png").write_bytes(picture.png)


def _as_html(path: Path, exporter: str) -> str:
    from nbconvert.exporters import get_exporter

    notebook = nbformat.read(path, as_version=4)
    source = notebook.metadata.get("papermill", {}).get("input_path", path)
    resources = {"metadata": {"name": path.stem, "path": str(Path(source).parent)}}
    html, _ = get_exporter(exporter)(embed_images=True).from_notebook_node(notebook, resources=resources)
    return re.sub(r'href="([^":/]+)\.ipynb"', r'href="\1.html"', html)
