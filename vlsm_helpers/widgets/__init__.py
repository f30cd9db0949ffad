"""Explorers: each has a model that computes, and a view in core ipywidgets (7.7 and 8) that displays its results."""

from vlsm_helpers.widgets.fusion import FusionExplorer
from vlsm_helpers.widgets.prompt import PromptExplorer, PromptModel

__all__ = ["FusionExplorer", "PromptExplorer", "PromptModel"]
