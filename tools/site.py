"""Build the course as a static site: `make site`, or `python -m tools.site [FOLDER]`; it opens from a folder, without a server.

Sphinx with MyST-NB and the book theme read the committed notebooks, outputs and all; nothing is executed. The README is the front
page. Links into the repository that lead to no page of the site are made links to the code host.
"""

import base64
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from nbformat import NotebookNode
from sphinx.cmd.build import main as sphinx

from tools.notebooks import NOTEBOOKS, PROJECT, REPOSITORY
from vlsm_helpers.course import results
from vlsm_helpers.widgets.export import with_explorers

PAGES = ("README.md", "CONTRIBUTING.md", *(f"docs/{path.name}" for path in sorted((PROJECT / "docs").glob("*.md"))))
PICTURES = ("notebooks/phantoms.jpg",)
PARTS = {
    "The course": "notebooks/[0-9]*.ipynb",
    "Solutions": "notebooks/solutions/[0-9]*.ipynb",
    "Around it": "docs/*.md",
}
CONFIG = f"""
project = "VLSM-Ensemble, step by step"
author = "the authors of the course"
html_title = project
extensions = ["myst_nb"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
nb_execution_mode = "off"
nb_merge_streams = True
nb_render_markdown_format = "gfm"
html_static_path = ["_own"]
html_css_files = ["own.css"]
html_theme = "sphinx_book_theme"
html_theme_options = {{
    "repository_url": "{REPOSITORY}",
    "repository_branch": "main",
    "path_to_docs": ".",
    "use_repository_button": True,
    "use_issues_button": True,
    "home_page_in_toc": True,
    "navbar_persistent": [],  # the side bar has a search field already
    "show_toc_level": 2,
    "launch_buttons": {{"binderhub_url": "https://mybinder.org", "colab_url": "https://colab.research.google.com"}},
}}
"""
# What the themes leave to be wished for: tables whose cells touch, lines and names that run out of their box, pictures
# dimmed in the dark (they are data here), and the empty head of a table that has none.
CSS = """
.bd-content table { font-size: .8rem; }
.bd-content table :is(th, td) { padding: .2rem .4rem; }
.bd-content table :is(code, code .pre) { white-space: normal; overflow-wrap: break-word; }
.cell_output table { font-size: .72rem; }
.cell_output table :is(th, td) { text-align: right; padding: .2rem .25rem; }
.cell_output table :is(th.row_heading, tbody th) { text-align: left; }
.bd-content .highlight pre, .cell_output .output pre { white-space: pre-wrap; }
.cell_output > .output + .output { margin-top: 1rem; }
.bd-content details { margin-bottom: 1rem; }
a.headerlink { position: absolute; }
html[data-theme=dark] .bd-content img, html[data-theme=dark] .bd-content div.cell_output img {
  filter: none !important; padding: 0; background: none; }
html[data-theme=dark] .bd-content div.cell_output .text_html:not(:has(table.dataframe)) {
  background: none; color: inherit; }
thead:not(:has(th:not(:empty))) { display: none; }
code { box-decoration-break: clone; -webkit-box-decoration-break: clone; }
"""
_LINK = re.compile(r"(?<!!)(\[[^\]]*\])\(([^)#:\s]+)(#[^)]*)?\)")


def write_sources(folder: Path) -> None:
    """Write what Sphinx reads to `folder`: pages, notebooks, pictures, conf.py and a table of contents."""
    notebooks = [*NOTEBOOKS.glob("[0-9]*.ipynb"), *NOTEBOOKS.glob("solutions/[0-9]*.ipynb")]
    for path in [*(PROJECT / name for name in (*PAGES, *PICTURES)), *notebooks]:  # all, before any link is looked at
        target = folder / path.relative_to(PROJECT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    for path in notebooks:
        page = folder / path.relative_to(PROJECT)
        nbformat.write(_as_page(nbformat.read(page, as_version=4), folder, page), page)
    for page in (folder / name for name in PAGES):
        page.write_text(_with_links(page.read_text(encoding="utf-8"), folder, page), encoding="utf-8")
    (folder / "README.md").rename(folder / "index.md")
    with (folder / "index.md").open("a", encoding="utf-8") as index:
        index.writelines(_contents(folder))
    (folder / "conf.py").write_text(CONFIG, encoding="utf-8")
    (folder / "_own").mkdir()
    (folder / "_own" / "own.css").write_text(CSS, encoding="utf-8")


def _contents(folder: Path) -> Iterator[str]:
    """The tables of contents, at the end of the front page, where the theme finds them."""
    for caption, pattern in PARTS.items():
        names = [str(path.relative_to(folder).with_suffix("")) for path in sorted(folder.glob(pattern))]
        yield "\n".join(["", "```{toctree}", ":hidden:", f":caption: {caption}", "", *names, "```", ""])
    yield "\n```{toctree}\n:hidden:\n:caption: For maintainers\n\nCONTRIBUTING\n```\n"


def _as_page(notebook: NotebookNode, folder: Path, page: Path) -> NotebookNode:
    """A notebook as MyST-NB wants it: attachments as files, alternative texts in cells' metadata, links that lead somewhere,
    and explorers that need no kernel."""
    notebook = with_explorers(notebook)
    notebook.metadata.language_info["pygments_lexer"] = "ipython3"  # which knows `!command`
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = _with_links(_with_files(cell, page), folder, page)
            continue
        outputs = cell.get("outputs", [])
        for output in outputs:
            output.get("data", {}).pop(results.MIME_TYPE, None)  # for programs
        found = [kind.get("alt") for output in outputs for kind in output.get("metadata", {}).values()]
        if any(found):
            cell.metadata["mystnb"] = {"image": {"alt": next(filter(None, found))}}
    return notebook


def _with_files(cell: NotebookNode, page: Path) -> str:
    """The cell's text, its attached pictures written beside the page."""
    text = cell.source
    for name, bundle in cell.pop("attachments", {}).items():
        kind, data = next(iter(bundle.items()))
        file = page.with_name(f"{page.stem}_{Path(name).stem}.{kind.partition('/')[2]}")
        file.write_bytes(base64.b64decode(data))
        text = text.replace(f"attachment:{name}", file.name)
    return text


def _with_links(text: str, folder: Path, page: Path) -> str:
    """Links to files of the repository that are no pages of the site lead to the code host instead."""

    def changed(match: re.Match) -> str:
        words, target, anchor = match[1], match[2], match[3] or ""
        there = (page.parent / target).resolve()
        inside = there.relative_to(folder.resolve()) if there.is_relative_to(folder.resolve()) else None
        if inside is None or (folder / inside).is_file() or not (PROJECT / inside).exists():
            return match[0]
        return f"{words}({REPOSITORY}/blob/main/{inside.as_posix()}{anchor})"

    return _LINK.sub(changed, text)


def build(output: Path) -> int:
    """Build the site in `output`; Sphinx's exit status. A warning (a link that leads nowhere, say) is an error."""
    with TemporaryDirectory() as work:
        write_sources(Path(work))
        return sphinx(["-q", "-W", "--keep-going", "-b", "html", "-d", str(Path(work, ".doctrees")), work, str(output)])


if __name__ == "__main__":
    chosen = Path(sys.argv[1]) if len(sys.argv) > 1 else PROJECT / "runs" / "site"
    status = build(chosen)
    print(chosen / "index.html")
    sys.exit(status)
