"""Explorers: a model that computes and knows no widget, and a view that only draws it, in core ipywidgets 7.7 and 8."""

from vlsm_helpers.widgets.fusion import FusionExplorer
from vlsm_helpers.widgets.prompt import PromptExplorer, PromptModel

__all__ = ["FusionExplorer", "PromptExplorer", "PromptModel"]
