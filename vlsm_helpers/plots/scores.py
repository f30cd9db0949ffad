"""Figures of the paper's table and around it: learning curves, datasets at home and abroad, gains and doubts."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from vlsm_helpers.plots.base import BLUE, COLOURS, STYLE


def learning_curves(table: pd.DataFrame) -> Figure:
    """Dice over the number of training images, a panel a `dataset` and a colour a `model`: `images`, `value`, `low`, `high`."""
    datasets = list(dict.fromkeys(table["dataset"]))
    with plt.rc_context(STYLE):
        figure, grid = plt.subplots(1, len(datasets), figsize=(3.9 * len(datasets), 2.9), squeeze=False, sharey=True)
        for axes, dataset in zip(grid.flat, datasets, strict=True):
            part = table[table["dataset"] == dataset]
            for colour, (model, rows) in zip(COLOURS, part.groupby("model", sort=False), strict=False):
                axes.fill_between(rows["images"], rows["low"], rows["high"], color=colour, alpha=0.12, linewidth=0)
                axes.plot(rows["images"], rows["value"], "o-", color=colour, label=model, markersize=4)
            counts = sorted(part["images"].unique())
            axes.set(xscale="log", xlabel="training images", title=dataset, ylim=(0, 1))
            axes.set_xticks(counts, list(map(str, counts)))
            axes.minorticks_off()
        grid[0, 0].set_ylabel("Dice on test")
        grid[0, -1].legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
        figure.tight_layout()
    return figure


def in_and_out_of_domain(table: pd.DataFrame) -> Figure:
    """For each dataset `trained_on` a panel: a line a `model` from its Dice at home to its Dice on the other `dataset`."""
    homes = list(dict.fromkeys(table["trained_on"]))
    with plt.rc_context(STYLE):
        figure, grid = plt.subplots(1, len(homes), figsize=(3.9 * len(homes), 3.2), squeeze=False, sharey=True)
        for axes, home in zip(grid.flat, homes, strict=True):
            part = table[table["trained_on"] == home]
            places = [home, *(name for name in dict.fromkeys(part["dataset"]) if name != home)]
            for colour, (model, rows) in zip((*COLOURS, "0.3"), part.groupby("model", sort=False), strict=False):
                values = rows.set_index("dataset")["value"].reindex(places)
                axes.plot(range(len(places)), values, "o-", color=colour, label=model)
            axes.set_xticks(
                range(len(places)), [f"trained and\ntested on\n{home}", *(f"tested on\n{name}" for name in places[1:])]
            )
            axes.set(xlim=(-0.3, len(places) - 0.7), ylim=(table["value"].min() - 0.05, table["value"].max() + 0.05))
        grid[0, 0].set_ylabel("Dice on test")
        grid[0, -1].legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
        figure.tight_layout()
    return figure


def gain_by_disagreement(disagreement: np.ndarray, gain: np.ndarray, pieces: int = 4) -> Figure:
    """A dot an image: what fusing gained in Dice over how much the members disagree; steps: the mean of each quarter."""
    order = np.array_split(np.argsort(disagreement, kind="stable"), pieces)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(5.2, 2.9))
        axes.axhline(0, color="0.6", linewidth=1)
        axes.plot(disagreement, gain, "o", color=BLUE, alpha=0.45, markersize=4, label="an image")
        for number, part in enumerate(order):
            ends = [disagreement[part].min(), disagreement[part].max()]
            label = "mean of each quarter" if number == 0 else None
            axes.plot(ends, [gain[part].mean()] * 2, color=COLOURS[1], linewidth=3, label=label)
        axes.set(xlabel="disagreement of the members", ylabel="Dice gained by fusing")
        axes.legend(frameon=False, loc="upper left")
        figure.tight_layout()
    return figure


def errors_by_uncertainty(uncertainty: Sequence[np.ndarray], wrong: Sequence[np.ndarray], bins: int = 10) -> Figure:
    """The share of wrong pixels over their uncertainty, in bits, and how many pixels there are of each: all images pooled."""
    bits = np.concatenate([one.ravel() for one in uncertainty])
    mistakes = np.concatenate([one.ravel() for one in wrong])
    place = np.minimum((bits * bins).astype(int), bins - 1)
    count = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        share = np.bincount(place, mistakes, bins) / count
    middles = (np.arange(bins) + 0.5) / bins
    with plt.rc_context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(7.5, 2.7))
        left.bar(middles, 100 * share, 0.9 / bins, color=BLUE)
        left.set(xlabel="uncertainty of a pixel, bits", ylabel="wrong, % of the bar's pixels")
        right.bar(middles, 100 * count / count.sum(), 0.9 / bins, color="0.6")
        right.set(xlabel="uncertainty of a pixel, bits", ylabel="% of all pixels")
        figure.tight_layout()
    return figure


def intervals_by_what_varies(rows: Mapping[str, tuple[float, float, float]], xlabel: str) -> Figure:
    """The same mean with several intervals, (mean, low, high) by what they let vary, one below the other."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(6.5, 0.7 + 0.4 * len(rows)))
        places = range(len(rows))[::-1]
        axes.axvline(0, color="0.6", linewidth=1)
        for place, (mean, low, high) in zip(places, rows.values(), strict=True):
            axes.hlines(place, low, high, color=BLUE, linewidth=5, alpha=0.35)
            axes.plot(mean, place, "o", color=BLUE)
        axes.set(yticks=places, yticklabels=list(rows), xlabel=xlabel, ylim=(-0.6, len(rows) - 0.4))
        figure.tight_layout()
    return figure
