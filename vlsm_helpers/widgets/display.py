"""Display of an explorer in a notebook, and its replacement on pages without a running kernel."""

import base64

import ipywidgets
from IPython.display import display

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


def show(box: ipywidgets.Widget, alt: str, png: bytes | None = None) -> None:
    """Display `box`; pages without a kernel show `png` with the alternative text `alt`, or `alt` alone."""
    # The bundle is spelled out because ipywidgets 7 and 8 display themselves in different ways.
    view = {"version_major": 2, "version_minor": 0, "model_id": box.model_id}
    image = {} if png is None else {"image/png": base64.b64encode(png).decode()}
    metadata = {kind: {"alt": alt} for kind in image}
    display({"text/plain": alt, WIDGET_VIEW: view} | image, metadata=metadata, raw=True)
