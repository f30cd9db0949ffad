"""Scores and differences with their intervals, scores of single images, and whether probabilities can be trusted."""

from collections.abc import Mapping, Sequence
from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from vlsm_helpers.metrics.calibration import Reliability
from vlsm_helpers.metrics.statistics import bootstrap_mean
from vlsm_helpers.plots.base import BLUE, COLOURS, ORANGE, styled


@styled
def score_forest(table: pd.DataFrame, label: str = "model", xlabel: str = "Dice on test") -> Figure:
    """One line per row of `table`: its `value`, in [0, 1], as a dot and its 95 % interval, `low` to `high`, as a bar."""
    figure, axes = plt.subplots(figsize=(7, 0.6 + 0.42 * len(table)))
    for position, row in enumerate(table.to_dict("records")):
        _interval(axes, position, row, BLUE, filled=True)
        axes.text(row["value"], position - 0.2, f"{row['value']:.1%}", ha="center", va="bottom", fontsize=8)
    _name_lines(axes, table[label], margin=0.7)
    axes.set(xlabel=f"{xlabel} (bars: 95 % CI)", xlim=(0, 1))
    figure.tight_layout()
    return figure


@styled
def difference_forest(
    table: pd.DataFrame, label: str, xlabel: str, colour: str | None = None, panel: str | None = None
) -> Figure:
    """Mean differences, `value` with their 95 % interval `low` to `high`, around a line at 0.

    `label`: the column that names the lines. `colour`: a column whose values share a line, each in its colour. `panel`: a
    column whose values get a panel each. A filled dot: the interval excludes 0.
    """
    names = table[colour].unique() if colour else [None]
    colours = dict(zip(names, cycle(COLOURS), strict=False))
    parts = [part for _, part in table.groupby(panel, sort=False)] if panel else [table]
    heights = [_height(part, label) for part in parts]
    size = (7.5, 0.8 + sum(heights) + 0.3 * len(parts))
    options = {"sharex": True, "squeeze": False, "layout": "constrained"}
    figure, grid = plt.subplots(len(parts), 1, figsize=size, height_ratios=heights, **options)
    for axes, part in zip(grid.flat, parts, strict=True):
        _draw_differences(axes, part, label, colour, colours)
        if panel:
            axes.set_title(part[panel].iloc[0], loc="left", weight="bold")
    if len(names) > 1:
        handles = [plt.Line2D([], [], color=shade, marker="o", label=name) for name, shade in colours.items()]
        figure.legend(handles=handles, frameon=False, loc="outside upper center", ncols=4)
    grid[-1, 0].set_xlabel(f"{xlabel}\n(bars: 95 % CI; filled dots: it excludes 0)")
    return figure


def _height(part: pd.DataFrame, label: str) -> float:
    """Inches for the lines of a panel: more for a line that holds several intervals."""
    return float(sum(0.15 + 0.17 * count for count in part[label].value_counts()))


def _draw_differences(
    axes: plt.Axes, part: pd.DataFrame, label: str, colour: str | None, colours: Mapping[str | None, str]
) -> None:
    axes.axvline(0, color="0.6", linewidth=1)
    lines = part[label].unique()
    for position, name in enumerate(lines):
        if position % 2:
            axes.axhspan(position - 0.5, position + 0.5, color="0.95", zorder=0)
        rows = part[part[label] == name].to_dict("records")
        for number, row in enumerate(rows):
            offset = 0.7 * (number + 0.5) / len(rows) - 0.35
            excludes_zero = row["low"] > 0 or row["high"] < 0
            _interval(axes, position + offset, row, colours[row[colour] if colour else None], excludes_zero)
    _name_lines(axes, lines, margin=0.5)


def _interval(axes: plt.Axes, position: float, row: Mapping, colour: str, filled: bool) -> None:
    """One value with its interval, at the height `position`."""
    axes.hlines(position, row["low"], row["high"], color=colour, linewidth=3.5, alpha=0.4)
    axes.plot(row["value"], position, "o", color=colour, markerfacecolor=colour if filled else "white", markersize=5)


def _name_lines(axes: plt.Axes, names: Sequence[str], margin: float) -> None:
    """Write the names of the lines at the left, the first one on top."""
    axes.set_yticks(range(len(names)), list(names))
    axes.set_ylim(len(names) - 0.5, -margin)


@styled
def dice_by_size(per_image: pd.DataFrame) -> Figure:
    """Dice of each image over the fraction of it that the lesion covers; images without a lesion are left out.

    `per_image`: columns `dice` and `foreground`, both in [0, 1].
    """
    lesions = per_image[per_image["foreground"] > 0]
    figure, axes = plt.subplots(figsize=(5, 2.8))
    axes.plot(100 * lesions["foreground"], lesions["dice"], "o", color=BLUE, alpha=0.6, markersize=5)
    axes.set(xscale="log", xlabel="lesion, % of the image (log scale)", ylabel="Dice", ylim=(-0.03, 1.03))
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    figure.tight_layout()
    return figure


@styled
def dice_scatter(dice: Mapping[str, np.ndarray], pairs: Sequence[tuple[str, str]]) -> Figure:
    """One panel per pair of members, one dot per image: Dice of the first on x, of the second on y."""
    figure, grid = plt.subplots(1, len(pairs), figsize=(2.7 * len(pairs), 2.7), squeeze=False)
    for axes, (first, second) in zip(grid.flat, pairs, strict=True):
        axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
        axes.plot(dice[first], dice[second], "o", color=BLUE, alpha=0.5, markersize=4)
        axes.set(xlabel=f"Dice of {first}", ylabel=f"Dice of {second}", xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
        axes.set_aspect("equal")
    figure.tight_layout()
    return figure


@styled
def gain_by_disagreement(disagreement: np.ndarray, gain: np.ndarray, groups: int = 4) -> Figure:
    """Dice gained by fusion over the members' disagreement: one dot per image, and the mean gain of `groups` equal groups.

    Grey lines separate the groups; the vertical bar of a group is the 95 % interval of its mean, over images.
    """
    figure, axes = plt.subplots(figsize=(5.2, 2.9))
    axes.axhline(0, color="0.6", linewidth=1)
    axes.plot(disagreement, gain, "o", color=BLUE, alpha=0.45, markersize=4, label="one image")
    mark = {"fmt": "o", "color": ORANGE, "markersize": 4, "linewidth": 2, "capsize": 4}
    for number, members in enumerate(np.array_split(np.argsort(disagreement, kind="stable"), groups)):
        if number:
            axes.axvline(disagreement[members].min(), color="0.8", linewidth=1, linestyle="dotted")
        mean = bootstrap_mean(gain[members])
        ends = [[mean.mean - mean.low], [mean.high - mean.mean]]
        label = f"mean of each of {groups} equal groups, 95 % CI"
        axes.errorbar(np.median(disagreement[members]), mean.mean, yerr=ends, **mark, label=label)
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles[:2], labels[:2], frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
    axes.set(xlabel="disagreement of the members", ylabel="Dice gained by fusion")
    figure.tight_layout()
    return figure


@styled
def errors_by_uncertainty(uncertainty: Sequence[np.ndarray], wrong: Sequence[np.ndarray], bins: int = 10) -> Figure:
    """Fraction of wrong pixels by uncertainty, and the number of pixels in each bin, over all images.

    `uncertainty`: in bits, [0, 1], of each image; `wrong`: bool, of the same shapes.
    """
    bits = np.concatenate([one.ravel() for one in uncertainty])
    mistakes = np.concatenate([one.ravel() for one in wrong])
    bin_of = np.minimum((bits * bins).astype(int), bins - 1)
    count = np.bincount(bin_of, minlength=bins)
    with np.errstate(invalid="ignore"):
        fraction = np.bincount(bin_of, mistakes, bins) / count
    middles = (np.arange(bins) + 0.5) / bins
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.5, 2.7))
    left.bar(middles, 100 * fraction, 0.9 / bins, color=BLUE)
    left.set(xlabel="uncertainty of a pixel (bits)", ylabel="wrong pixels, % of the bin")
    right.bar(middles, 100 * count / count.sum(), 0.9 / bins, color="0.6")
    right.set(xlabel="uncertainty of a pixel (bits)", ylabel="% of all pixels")
    figure.tight_layout()
    return figure


@styled
def reliability_diagrams(calibration: Mapping[str, Reliability]) -> Figure:
    """Fraction of foreground over predicted probability, one panel per name; calibrated probabilities lie on the diagonal.

    The area of a dot grows with its share of the pixels.
    """
    figure, grid = plt.subplots(1, len(calibration), figsize=(2.3 * len(calibration), 2.7), squeeze=False, sharey=True)
    for axes, (name, one) in zip(grid.flat, calibration.items(), strict=True):
        axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
        axes.plot(one.mean_predicted, one.fraction_positive, color=BLUE)
        sizes = 5 + 150 * one.share
        axes.scatter(one.mean_predicted, one.fraction_positive, sizes, color=BLUE, clip_on=False, zorder=3)
        axes.set(title=f"{name}\nECE {one.ece:.3f}, Brier {one.brier:.3f}", xlim=(0, 1), ylim=(0, 1))
        axes.set(xlabel="mean predicted\nprobability", xticks=[0, 0.5, 1])
    grid[0, 0].set_ylabel("fraction of foreground")
    figure.tight_layout()
    return figure
