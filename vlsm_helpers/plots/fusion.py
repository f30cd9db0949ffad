"""Figures of members side by side: where they differ, what weights do, and whether probabilities mean what they say."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from vlsm_helpers.metrics.calibration import Reliability
from vlsm_helpers.plots.base import BLUE, ORANGE, STYLE, curves_with_best


def dice_by_weight(weights: Sequence[float], dice: Mapping[str, Sequence[float]], weight_of: str) -> Figure:
    """Mean Dice over the weight of the member `weight_of`, a line a name; its best point is marked."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(5.2, 2.8))
        curves_with_best(axes, weights, dice)
        axes.set(xlabel=f"weight of {weight_of}", ylabel="mean Dice")
        axes.legend(frameon=False)
        figure.tight_layout()
    return figure


def dice_against(dice: Mapping[str, np.ndarray], pairs: Sequence[tuple[str, str]]) -> Figure:
    """For each pair of members a square: a dot an image, by the Dice of one and of the other. Below the line the first wins."""
    with plt.rc_context(STYLE):
        figure, grid = plt.subplots(1, len(pairs), figsize=(2.7 * len(pairs), 2.7), squeeze=False)
        for axes, (first, second) in zip(grid.flat, pairs, strict=True):
            axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
            axes.plot(dice[first], dice[second], "o", color=BLUE, alpha=0.5, markersize=4)
            axes.set(xlabel=f"Dice of {first}", ylabel=f"Dice of {second}", xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
            axes.set_aspect("equal")
        figure.tight_layout()
    return figure


def reliability_diagrams(found: Mapping[str, Reliability]) -> Figure:
    """Share of foreground over probability, a panel a name: on the line, probabilities mean what they say. The more
    pixels a dot stands for, the larger it is."""
    with plt.rc_context(STYLE):
        figure, grid = plt.subplots(1, len(found), figsize=(2.3 * len(found), 2.6), squeeze=False, sharey=True)
        for axes, (name, one) in zip(grid.flat, found.items(), strict=True):
            axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
            axes.plot(one.said, one.true, color=BLUE)
            axes.scatter(one.said, one.true, 5 + 150 * one.share, color=BLUE, clip_on=False, zorder=3)
            axes.set(title=f"{name}\nECE {one.ece:.3f}, Brier {one.brier:.3f}", xlim=(0, 1), ylim=(0, 1))
            axes.set(xlabel="probability", xticks=[0, 0.5, 1])
        grid[0, 0].set_ylabel("share of foreground")
        figure.tight_layout()
    return figure


def risk_by_coverage(curves: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Figure:
    """The mean of 1 - Dice over the share of images that are kept, a line a name."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(5.2, 2.8))
        for colour, (name, (coverage, risk)) in zip((ORANGE, BLUE, "0.7"), curves.items(), strict=False):
            axes.plot(coverage, risk, color=colour, label=name)
        axes.set(xlabel="share of images kept", ylabel="risk: mean of 1 − Dice", xlim=(0, 1.02), ylim=(0, None))
        axes.legend(frameon=False)
        figure.tight_layout()
    return figure
