"""How an explorer shows itself in a notebook, and what stands in its place where no kernel runs."""

import base64

import ipywidgets
from IPython.display import display

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


def show(box: ipywidgets.Widget, words: str, still: bytes | None = None) -> None:
    """Display `box`; pages without a kernel show `still`, a PNG, with `words` as its alternative text, or `words` alone."""
    # Written out, because the two majors of ipywidgets display themselves in different ways.
    view = {"version_major": 2, "version_minor": 0, "model_id": box.model_id}
    picture = {} if still is None else {"image/png": base64.b64encode(still).decode()}
    about = {kind: {"alt": words} for kind in picture}
    display({"text/plain": words, WIDGET_VIEW: view} | picture, metadata=about, raw=True)
