"""Images in rows and grids: with outlines of masks, with probability maps, cut into patches."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from vlsm_helpers.plots.base import COLOURS, bare, fill_prediction, outline, outline_legend, styled


@styled
def image_grid(
    images: Sequence[np.ndarray],
    masks: Sequence[np.ndarray],
    titles: Sequence[str],
    predictions: Sequence[np.ndarray] = (),
    columns: int = 6,
) -> Figure:
    """Images, uint8 (H, W, 3), with outlines of their masks, bool (H, W): green, and `predictions` tinted and dashed orange."""
    rows = -(-len(images) // columns)
    size = (1.7 * columns, 1.95 * rows + 0.25 * bool(len(predictions)))
    figure, grid = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    for axes in grid.flat:
        axes.axis("off")
    for number, axes in enumerate(grid.flat[: len(images)]):
        axes.imshow(images[number])
        outline(axes, masks[number])
        if len(predictions):
            fill_prediction(axes, predictions[number])
        axes.set_title(titles[number], fontsize=8, wrap=True)
    if len(predictions):
        outline_legend(figure)
    return figure


@styled
def image_row(images: Mapping[str, np.ndarray]) -> Figure:
    """Images, uint8 (H, W, 3 or 4) and about square, side by side under their names."""
    height = 2.0 + 0.15 * max(1 + name.count("\n") for name in images)  # a title of two lines needs room for both
    figure, grid = plt.subplots(1, len(images), figsize=(1.7 * len(images), height), squeeze=False)
    for axes, (name, pixels) in zip(grid.flat, images.items(), strict=True):
        axes.imshow(pixels)
        axes.set_title(name, fontsize=8)
        axes.axis("off")
    figure.tight_layout(pad=0.5)
    return figure


@styled
def probability_maps(
    images: Sequence[np.ndarray],
    masks: Sequence[np.ndarray],
    maps: Mapping[str, Sequence[np.ndarray]],
    quantity: str = "probability of foreground",
) -> Figure:
    """One column per image, uint8 (H, W, 3): the image, and below it one map, (S, S) in [0, 1], per entry of `maps`.

    Every panel has the outline of the image's ground truth, bool, of the panel's size. `quantity` labels the colour bar.
    """
    shape = (1 + len(maps), len(images))
    size = (1.1 + 1.3 * shape[1], 1.3 * shape[0])
    figure, grid = plt.subplots(*shape, figsize=size, squeeze=False, layout="constrained")
    for axes in grid.flat:
        bare(axes)
    grid[0, 0].set_ylabel("image")
    for axes, image in zip(grid[0], images, strict=True):
        axes.imshow(image)
    for row, (name, values) in zip(grid[1:], maps.items(), strict=True):
        row[0].set_ylabel(fill(name, 18))
        for axes, one in zip(row, values, strict=True):
            shown = axes.imshow(one, cmap="magma", vmin=0, vmax=1)
    for column, mask in zip(grid.T, masks, strict=True):
        for axes in column:
            outline(axes, mask)
    _colour_bar(figure, shown, grid, quantity)
    return figure


@styled
def map_grid(rows: Mapping[str, Mapping[str, np.ndarray]], quantity: str) -> Figure:
    """Named rows of titled panels: images, uint8 (H, W, 3), or maps, (H, W) in [0, 1]; pixels stay square.

    Titles stand above the first row. `quantity` labels the maps' colour bar.
    """
    columns = max(len(row) for row in rows.values())
    size = (1.08 * columns + 1.1, 1.16 * len(rows) + 0.3)
    figure, grid = plt.subplots(len(rows), columns, figsize=size, squeeze=False, layout="constrained")
    for axes in grid.flat:
        bare(axes)
    for number, (name, row) in enumerate(rows.items()):
        grid[number, 0].set_ylabel(fill(name, 16), fontsize=8)
        for axes, (title, panel) in zip(grid[number], row.items(), strict=False):
            shown = axes.imshow(panel, cmap="viridis", vmin=0, vmax=1, interpolation="nearest")
            if number == 0:
                axes.set_title(fill(title, 16), fontsize=8)
    _colour_bar(figure, shown, grid, quantity)
    return figure


@styled
def prompt_predictions(
    images: Sequence[np.ndarray],
    masks: Sequence[np.ndarray],
    probabilities: Mapping[str, np.ndarray],
    threshold: float = 0.5,
) -> Figure:
    """One row per image, uint8 (S, S, 3): the image, then one column per prompt.

    `masks`: bool (S, S), outlined in green; `probabilities`: by prompt, (N, S, S) in [0, 1], thresholded, tinted and
    outlined in dashed orange.
    """
    shape = len(images), 1 + len(probabilities)
    size = (1.15 * shape[1], 1.2 * shape[0] + 0.45)
    figure, grid = plt.subplots(*shape, figsize=size, squeeze=False, layout="constrained")
    for row, image, mask in zip(grid, images, masks, strict=True):
        for axes in row:
            axes.imshow(image)
            outline(axes, mask)
            axes.axis("off")
    grid[0, 0].set_title("image", fontsize=8)
    for column, (prompt, maps) in enumerate(probabilities.items(), start=1):
        for axes, probability in zip(grid[:, column], maps, strict=True):
            fill_prediction(axes, probability > threshold)
        grid[0, column].set_title(fill(f"“{prompt}”" if prompt else "empty prompt", 18), fontsize=8)
    outline_legend(figure)
    return figure


@styled
def image_patches(image: np.ndarray, side: int) -> Figure:
    """An image, uint8 (H, W, 3), next to the same image cut into patches of `side` pixels, numbered row by row."""
    rows, columns = image.shape[0] // side, image.shape[1] // side
    gap = max(1, side // 8)
    cut = np.full((rows * (side + gap) - gap, columns * (side + gap) - gap, 3), 255, np.uint8)
    figure, (left, right) = plt.subplots(1, 2, figsize=(5.6, 2.9))
    for number, (row, column) in enumerate(np.ndindex(rows, columns), start=1):
        top, start = row * (side + gap), column * (side + gap)
        patch = image[row * side : (row + 1) * side, column * side : (column + 1) * side]
        cut[top : top + side, start : start + side] = patch
        if number in (1, 2, columns, columns + 1, rows * columns):
            centre, size = (start + side / 2, top + side / 2), max(4.5, min(8, 64 / columns))
            right.text(*centre, str(number), color="white", ha="center", va="center", fontsize=size)
    left.imshow(image)
    right.imshow(cut)
    left.set_title(f"{image.shape[0]} × {image.shape[1]} pixels")
    right.set_title(f"{rows} × {columns} patches of {side} × {side} pixels")
    for axes in (left, right):
        axes.axis("off")
    figure.tight_layout()
    return figure


@styled
def receptive_fields(image: np.ndarray, sides: Mapping[str, int]) -> Figure:
    """Squares of `sides` pixels, by name, around the centre of an image (H, W, 3): the receptive field of each layer."""
    figure, axes = plt.subplots(figsize=(3.6, 3.6))
    axes.imshow(image)
    row, column = image.shape[0] / 2, image.shape[1] / 2
    for colour, (name, side) in zip(cycle(COLOURS), sides.items(), strict=False):
        corner = (column - side / 2, row - side / 2)
        axes.add_patch(plt.Rectangle(corner, side, side, fill=False, edgecolor=colour, linewidth=2, label=name))
    axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False)
    axes.axis("off")
    return figure


def frame_patch(image: np.ndarray, position: tuple[int, int], side: int) -> np.ndarray:
    """A copy of an image, uint8 (H, W, 3), with a white frame in the patch of `side` pixels at `position` (row, column)."""
    framed, width = image.copy(), max(1, side // 8)
    top, left = position[0] * side, position[1] * side
    patch = framed[top : top + side, left : left + side]
    inside = patch[width:-width, width:-width].copy()
    patch[:] = 255
    patch[width:-width, width:-width] = inside
    return framed


def _colour_bar(figure: Figure, shown: plt.cm.ScalarMappable, grid: np.ndarray, quantity: str) -> None:
    """A thin colour bar from 0 to 1 to the right of all panels."""
    bar = figure.colorbar(shown, ax=grid, aspect=12 * len(grid), pad=0.02, ticks=[0, 0.5, 1])
    bar.set_label(fill(quantity, max(18, 16 * len(grid))))
    bar.outline.set_visible(False)
