"""Tables of numbers as colours: pixel values, cosine similarities, the parameters of FiLM."""

from collections.abc import Mapping, Sequence
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from vlsm_helpers.plots.base import ORANGE, bare, styled


def heat_map(axes: plt.Axes, values: np.ndarray, spec: str = ".2f", size: float = 7, **colours) -> AxesImage:
    """Draw values (N, M) as colours with the number in each cell, in white on dark cells; NaN cells stay empty.

    `spec`: format of the numbers; `colours`: options of `imshow` (cmap, vmin, vmax).
    """
    shown = axes.imshow(values, aspect="auto", **colours)
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            luminance = shown.to_rgba(value)[:3] @ np.array([0.299, 0.587, 0.114])
            colour = "white" if luminance < 0.55 else "black"
            axes.text(column, row, format(value, spec), ha="center", va="center", fontsize=size, color=colour)
    axes.spines[:].set_visible(False)
    return shown


@styled
def pixel_values(panels: Mapping[str, np.ndarray]) -> Figure:
    """Small arrays (H, W) in [0, 1] side by side, under their names, each pixel with its value."""
    figure, grid = plt.subplots(1, len(panels), figsize=(2.3 * len(panels), 2.5), squeeze=False)
    for axes, (title, values) in zip(grid.flat, panels.items(), strict=True):
        heat_map(axes, values, "g", 9, cmap="Blues", vmin=0, vmax=1.3)
        axes.set_title(title)
        bare(axes)
    figure.tight_layout()
    return figure


@styled
def cosine_matrix(cosines: np.ndarray, names: Sequence[str]) -> Figure:
    """Cosine similarities (N, N), in [-1, 1], of N named embeddings."""
    figure, axes = plt.subplots(figsize=(1.4 + 0.62 * len(names), 0.9 + 0.42 * len(names)))
    heat_map(axes, cosines, cmap="RdBu_r", vmin=-1, vmax=1)
    axes.set(xticks=range(len(names)), yticks=range(len(names)), yticklabels=names)
    axes.set_xticklabels(names, rotation=35, ha="right", rotation_mode="anchor")
    figure.tight_layout()
    return figure


@styled
def image_text_similarity(images: Sequence[np.ndarray], captions: Sequence[str], cosines: np.ndarray) -> Figure:
    """Cosine similarities (N, M): one column per image, uint8 (H, W, 3), one row per caption.

    A frame marks the most similar caption of each image.
    """
    cell, text = 0.46, 2.6  # inches: side of a cell, width of the captions
    width, height = text + cell * len(images), cell * (1 + len(captions))
    figure = plt.figure(figsize=(width, height))
    axes = figure.add_axes([text / width, 0, 1 - text / width, 1])
    values = np.vstack([np.full(len(images), np.nan), cosines.T])  # the first row is for the images
    heat_map(axes, values, cmap="Blues", vmax=cosines.max() + 0.3)
    for column, image in enumerate(images):
        axes.imshow(image, extent=(column - 0.46, column + 0.46, 0.46, -0.46), aspect="auto")
        best = 1 + cosines[column].argmax()
        axes.add_patch(plt.Rectangle((column - 0.46, best - 0.46), 0.92, 0.92, fill=False, edgecolor=ORANGE, lw=2))
    axes.set(xlim=(-0.5, len(images) - 0.5), ylim=(len(captions) + 0.5, -0.5), xticks=[])
    axes.set_yticks(range(1, 1 + len(captions)), [fill(caption, 42) for caption in captions], fontsize=8)
    axes.tick_params(length=0)
    return figure


@styled
def film_parameters(scales: np.ndarray, shifts: np.ndarray, prompts: Sequence[str]) -> Figure:
    """Scales (P, C) and shifts (P, C) that FiLM applies to C channels for P prompts; white: the channel is unchanged.

    Both panels sort the channels by the standard deviation of their scale over the prompts: the prompts differ most on
    the left.
    """
    order = np.argsort(-scales.std(axis=0), kind="stable")
    figure, grid = plt.subplots(2, 1, figsize=(8.5, 1.3 + 0.44 * len(prompts)), sharex=True, layout="constrained")
    for axes, values, centre, name in zip(grid, (scales, shifts), (1, 0), ("scale", "shift"), strict=True):
        reach = float(np.abs(values - centre).max()) or 1.0
        shown = axes.imshow(values[:, order], cmap="RdBu_r", vmin=centre - reach, vmax=centre + reach, aspect="auto")
        axes.set(yticks=range(len(prompts)), yticklabels=prompts)
        axes.spines[:].set_visible(False)
        figure.colorbar(shown, ax=axes, pad=0.02, label=f"{name} ({centre}: none)")
    grid[1].set_xlabel("channels of the decoder's tokens, sorted: those whose scale depends most on the prompt first")
    return figure
