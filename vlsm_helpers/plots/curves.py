"""Line plots: any quantity over another, training histories, learning curves, scores in and out of domain."""

from collections.abc import Mapping, Sequence
from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vlsm_helpers.plots.base import COLOURS, styled

Line = tuple[Sequence[float], Sequence[float]]  # x and y


def draw_curves(axes: plt.Axes, lines: Mapping[str, Line], mark_best: bool = False) -> None:
    """Draw one line per name, each in a colour of its own; `mark_best` puts a dot on its largest value."""
    for left, colour, (name, (x, y)) in zip(range(len(lines), 0, -1), cycle(COLOURS), lines.items(), strict=False):
        axes.plot(x, y, color=colour, label=name)
        if mark_best:
            best = int(np.argmax(y))  # the first dots are the largest, so that dots on top of each other stay visible
            axes.plot(np.asarray(x)[best], np.asarray(y)[best], "o", color=colour, markersize=3.5 + 1.5 * left)


@styled
def curves(
    lines: Mapping[str, Line],
    xlabel: str,
    ylabel: str,
    *,
    mark_best: bool = False,
    ylim: tuple[float | None, float | None] = (None, None),
) -> Figure:
    """Named lines (x, y) in one panel, such as Dice over thresholds or weights, or risk over coverage.

    `mark_best`: put a dot on the largest value of each line.
    """
    figure, axes = plt.subplots(figsize=(6, 2.9))
    draw_curves(axes, lines, mark_best)
    axes.set(xlabel=xlabel, ylabel=ylabel, ylim=ylim)
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.tight_layout()
    return figure


@styled
def training_curves(histories: Mapping[str, pd.DataFrame], mean_mask: float | None = None) -> Figure:
    """Training loss and validation Dice over epochs, one line per run; a dot marks the best epoch.

    `histories`: by run, with columns `epoch`, `train_loss` and `val_dice`. `mean_mask`: Dice of that baseline, drawn as a
    dotted line.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.5, 3.1), layout="constrained")
    draw_curves(left, {name: (run["epoch"], run["train_loss"]) for name, run in histories.items()})
    draw_curves(right, {name: (run["epoch"], run["val_dice"]) for name, run in histories.items()}, mark_best=True)
    if mean_mask is not None:
        right.axhline(mean_mask, color="grey", linestyle="dotted", label="baseline: mean training mask")
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    left.set(xlabel="epoch", ylabel="training loss (Dice + cross-entropy)", ylim=(0, None))
    right.set(xlabel="epoch", ylabel="Dice on validation", ylim=(0, 1))
    figure.legend(*right.get_legend_handles_labels(), frameon=False, loc="outside upper center", ncols=4)
    return figure


@styled
def channel_weights(panels: Mapping[str, Mapping[str, np.ndarray]]) -> Figure:
    """Weights (C,), in [0, 1], of channel attention: one panel per stage, such as before and after training, one line per image.

    All panels share the axis from 0 to 1. The first lines are the widest, so that lines on top of each other stay visible.
    """
    figure, grid = plt.subplots(
        len(panels), 1, figsize=(8.5, 0.6 + 1.7 * len(panels)), squeeze=False, sharex=True, layout="constrained"
    )
    for axes, (title, lines) in zip(grid.flat, panels.items(), strict=True):
        draw_curves(axes, {name: (range(len(values)), values) for name, values in lines.items()})
        for number, line in enumerate(axes.lines):
            line.set_linewidth(0.9 + 1.9 * (len(axes.lines) - 1 - number))
        axes.set_title(title, loc="left")
        axes.set(ylabel="weight", ylim=(0, 1))
    grid[-1, 0].set_xlabel("channel of the bottleneck")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), frameon=False, loc="outside upper right", ncols=4)
    return figure


@styled
def learning_curves(table: pd.DataFrame) -> Figure:
    """Dice over the number of training images: one panel per `dataset`, one colour per `model`.

    `table`: one row per dataset, model and number of `images`, with its mean Dice `value`, drawn as a thick line, and its
    95 % interval from `low` to `high`, drawn as a bar. A column `seeds`, one Dice per seed, is drawn as thin lines. Each
    panel has an axis of its own, from the lowest to the highest value that it shows.
    """
    datasets = list(dict.fromkeys(table["dataset"]))
    figure, grid = plt.subplots(1, len(datasets), figsize=(3.9 * len(datasets), 2.9), squeeze=False)
    for axes, dataset in zip(grid.flat, datasets, strict=True):
        part = table[table["dataset"] == dataset]
        for number, (model, rows) in enumerate(part.groupby("model", sort=False)):
            colour, beside = COLOURS[number % len(COLOURS)], rows["images"] * 1.035**number  # bars side by side
            axes.vlines(beside, rows["low"], rows["high"], color=colour, alpha=0.4, linewidth=3)
            axes.plot(beside, rows["value"], "o-", color=colour, label=model, markersize=4)
            if "seeds" in rows:
                axes.plot(rows["images"], np.stack(rows["seeds"]), color=colour, linewidth=0.7, alpha=0.7)
        counts = sorted(part["images"].unique())
        axes.set(xscale="log", xlabel="training images (log scale)", title=dataset)
        axes.set_xticks(counts, list(map(str, counts)))
        axes.minorticks_off()
    grid[0, 0].set_ylabel("Dice on test")
    grid[0, -1].legend(
        title="mean; bars: 95 % CI" + ("\nthin: single seeds" if "seeds" in table else ""),
        frameon=False,
        loc="center left",
        bbox_to_anchor=(1, 0.5),
    )
    figure.tight_layout()
    return figure


@styled
def in_and_out_of_domain(table: pd.DataFrame) -> Figure:
    """One panel per test `dataset`, one line per `model`: Dice `value` if trained on the same dataset, and if on others.

    `table`: one row per `trained_on`, `model` and test `dataset`. All values of a panel come from the same test images.
    """
    tests = list(dict.fromkeys(table["dataset"]))
    limits = table["value"].min() - 0.05, table["value"].max() + 0.05
    figure, grid = plt.subplots(1, len(tests), figsize=(3.9 * len(tests), 3.2), squeeze=False, sharey=True)
    for axes, test in zip(grid.flat, tests, strict=True):
        part = table[table["dataset"] == test]
        sources = [test, *(name for name in dict.fromkeys(part["trained_on"]) if name != test)]
        by_model = {  # each line a little to the right of the one before, so that dots do not hide each other
            model: (np.arange(len(sources)) + 0.03 * number, rows.set_index("trained_on")["value"].reindex(sources))
            for number, (model, rows) in enumerate(part.groupby("model", sort=False))
        }
        draw_curves(axes, by_model)
        for line in axes.lines:
            line.set(marker="o", markersize=4)
        kinds = ["in-domain", *["out-of-domain"] * (len(sources) - 1)]
        labels = [f"{kind}\n{name}" for kind, name in zip(kinds, sources, strict=True)]
        axes.set_xticks(range(len(sources)), labels)
        axes.set(title=f"tested on {test}", xlabel="trained on", xlim=(-0.3, len(sources) - 0.5), ylim=limits)
    grid[0, 0].set_ylabel("Dice on test")
    grid[0, -1].legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.tight_layout()
    return figure
