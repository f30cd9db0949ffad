"""Figures of what a network that reads makes of an image and a prompt; `plots.show()` puts them on the page."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from vlsm_helpers.plots.base import PREDICTION, STYLE, curves_with_best, outline


def patches(image: np.ndarray, side: int) -> Figure:
    """An image (H, W, 3), and the same cut into patches of `side` pixels, which are numbered row by row."""
    rows, columns = image.shape[0] // side, image.shape[1] // side
    gap = max(1, side // 8)
    apart = np.full((rows * (side + gap) - gap, columns * (side + gap) - gap, 3), 255, np.uint8)
    with plt.rc_context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(5.6, 2.9))
        left.imshow(image)
        for number, (row, column) in enumerate(np.ndindex(rows, columns), start=1):
            top, start = row * (side + gap), column * (side + gap)
            cut = image[row * side : (row + 1) * side, column * side : (column + 1) * side]
            apart[top : top + side, start : start + side] = cut
            if number in (1, 2, columns, columns + 1, rows * columns):
                middle = side / 2
                place, small = (start + middle, top + middle), max(4.5, min(8, 64 / columns))
                right.text(*place, str(number), color="white", ha="center", va="center", fontsize=small)
        right.imshow(apart)
        left.set_title(f"{image.shape[0]} × {image.shape[1]} pixels")
        right.set_title(f"{rows} × {columns} patches of {side} × {side} pixels")
        for axes in (left, right):
            axes.axis("off")
        figure.tight_layout()
    return figure


def framed(image: np.ndarray, place: tuple[int, int], side: int) -> np.ndarray:
    """A copy of an image uint8 (H, W, 3) with a white frame around the patch at `place` (row, column) of `side` pixels."""
    framed, width = image.copy(), max(1, side // 8)
    top, left = place[0] * side, place[1] * side
    patch = framed[top : top + side, left : left + side]
    inside = patch[width:-width, width:-width].copy()
    patch[:] = 255
    patch[width:-width, width:-width] = inside
    return framed


def panels(rows: Mapping[str, Mapping[str, np.ndarray]]) -> Figure:
    """Pictures in rows that have names, under titles: colours (H, W, 3), or numbers (H, W) from 0 to 1; pixels stay square."""
    columns = max(len(row) for row in rows.values())
    with plt.rc_context(STYLE):
        figure, grid = plt.subplots(
            len(rows), columns, figsize=(1.08 * columns + 0.5, 1.16 * len(rows) + 0.2), squeeze=False
        )
        for axes in grid.flat:
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        for number, (name, row) in enumerate(rows.items()):
            grid[number, 0].set_ylabel(name, fontsize=8)
            for axes, (title, picture) in zip(grid[number], row.items(), strict=False):
                axes.imshow(picture, cmap="viridis", vmin=0, vmax=1, interpolation="nearest")
                if number == 0:
                    axes.set_title(title, fontsize=8)
        figure.tight_layout(pad=0.4)
    return figure


def answers(
    images: Sequence[np.ndarray],
    masks: Sequence[np.ndarray],
    probabilities: Mapping[str, np.ndarray],
    threshold: float = 0.5,
) -> Figure:
    """A row an image, a column a prompt: how probable each pixel is (the darker, the less), the truth's outline (green) and
    the prediction's (orange, dashed).

    `probabilities`: by prompt, (N, S, S) in [0, 1], for N images (S, S, 3) with masks bool (S, S).
    """
    with plt.rc_context(STYLE):
        shape = len(images), len(probabilities)
        figure, grid = plt.subplots(*shape, figsize=(1.15 * shape[1], 1.2 * shape[0] + 0.2), squeeze=False)
        for column, (prompt, maps) in enumerate(probabilities.items()):
            for axes, image, mask, probability in zip(grid[:, column], images, masks, maps, strict=True):
                axes.imshow(image / 255 * (0.4 + 0.6 * probability[..., None]))
                outline(axes, mask)
                outline(axes, probability > threshold, PREDICTION, "dashed")
                axes.axis("off")
            grid[0, column].set_title(f"“{prompt}”", fontsize=8, wrap=True)
        figure.tight_layout(pad=0.5)
    return figure


def similarities(table: np.ndarray, names: Sequence[str]) -> Figure:
    """A square table of numbers from -1 to 1 (N, N) as colours with the numbers written on them."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(1.4 + 0.62 * len(names), 0.9 + 0.42 * len(names)))
        axes.imshow(table, cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto")
        for (row, column), value in np.ndenumerate(table):
            colour = "white" if abs(value) > 0.6 else "black"
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=7, color=colour)
        axes.set(xticks=range(len(names)), yticks=range(len(names)), yticklabels=names)
        axes.set_xticklabels(names, rotation=35, ha="right", rotation_mode="anchor")
        axes.spines[:].set_visible(False)
        figure.tight_layout()
    return figure


def film(scales: np.ndarray, shifts: np.ndarray, prompts: Sequence[str]) -> Figure:
    """What P prompts do to C channels: scales (P, C) and shifts (P, C), a row a prompt; a scale of 1 and no shift are white."""
    with plt.rc_context(STYLE):
        figure, grid = plt.subplots(2, 1, figsize=(8.5, 1.2 + 0.44 * len(prompts)), sharex=True)
        for axes, values, centre, title in zip(grid, (scales, shifts), (1, 0), ("scale", "shift"), strict=True):
            reach = float(np.abs(values - centre).max()) or 1.0
            drawn = axes.imshow(values, cmap="RdBu_r", vmin=centre - reach, vmax=centre + reach, aspect="auto")
            axes.set(yticks=range(len(prompts)), yticklabels=prompts)
            axes.set_title(title, loc="left")
            axes.spines[:].set_visible(False)
            figure.colorbar(drawn, ax=axes, pad=0.02)
        grid[1].set_xlabel("channel of the decoder's tokens")
        figure.tight_layout()
    return figure


def threshold_curves(thresholds: Sequence[float], curves: Mapping[str, Sequence[float]]) -> Figure:
    """Mean Dice over the threshold, a colour a curve, with a dot at its best; 0.5 is a dotted line."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(6, 2.9))
        curves_with_best(axes, thresholds, curves)
        axes.axvline(0.5, color="grey", linestyle="dotted")
        axes.set(xlabel="threshold", ylabel="Dice on validation", xlim=(0, 1), ylim=(0, None))
        axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
        figure.tight_layout()
    return figure
