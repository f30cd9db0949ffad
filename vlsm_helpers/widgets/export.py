"""Notebooks as HTML pages on which the fusion explorer still moves: `jupyter nbconvert --to vlsm_html NOTEBOOK`."""

from functools import lru_cache

import nbformat
from nbconvert import HTMLExporter
from nbformat import NotebookNode

from vlsm_helpers.course.shipped import tiny_store
from vlsm_helpers.widgets import static
from vlsm_helpers.widgets.fusion import TEXT_START, FusionExplorer


class ExplorableHTML(HTMLExporter):
    """nbconvert's HTML, with explorers that need no kernel (see `with_explorers`)."""

    export_from_notebook = "HTML, fusion explorer included"  # its name in JupyterLab's menu

    def from_notebook_node(self, nb, resources=None, **options):
        """The page and nbconvert's resources."""
        return super().from_notebook_node(with_explorers(nb), resources, **options)


def with_explorers(notebook: NotebookNode) -> NotebookNode:
    """A copy in which each explorer of the shipped validation logits is replaced by one that computes in the browser.

    An explorer of other members stays the picture that it left: `FusionExplorer.save_page` writes a page of those.
    """
    notebook = nbformat.from_dict(notebook)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            text = output.get("data", {}).get("text/plain", "")
            if text.startswith(TEXT_START) and text == _shipped()[0]:
                output.data, output.metadata = {"text/html": _shipped()[1]}, {}
    return notebook


@lru_cache(1)
def _shipped() -> tuple[str, str]:
    """The text that an explorer of the shipped members leaves in a notebook, and its part of a page."""
    explorer = FusionExplorer(tiny_store("val"))
    return repr(explorer), static.part(explorer.model)
