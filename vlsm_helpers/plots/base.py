"""Every figure of the course: each function draws one and returns it, `show()` puts it on the page."""

from collections.abc import Mapping, Sequence
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import display
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

# Okabe and Ito's colours: told apart by people who do not see all colours, and in print.
BLUE, ORANGE, GREEN, RED, PURPLE, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
COLOURS = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY)
TRUTH, PREDICTION = GREEN, ORANGE
STYLE = {
    "figure.facecolor": "white",  # so that a page with a dark theme shows the text, too
    "figure.dpi": 100,
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
}


def show(figure: Figure, alt: str) -> None:
    """Put the figure on the page once, with `alt`: a sentence for people who do not see it."""
    display(figure, metadata={"image/png": {"alt": alt}})
    plt.close(figure)


def outline(axes: plt.Axes, mask: np.ndarray, colour: str = TRUTH, style: str = "solid") -> None:
    """Draw the outline of a mask, bool (H, W), over what `axes` shows; an empty mask has none."""
    if mask.any() and not mask.all():
        lines = axes.contour(mask, levels=[0.5], colors=colour, linewidths=1.6, linestyles=style)
        lines.set_path_effects([withStroke(linewidth=2.6, foreground="0.15")])  # to be seen on any ground


def image_grid(
    images: Sequence[np.ndarray],
    masks: Sequence[np.ndarray],
    titles: Sequence[str],
    predictions: Sequence[np.ndarray] = (),
    columns: int = 6,
) -> Figure:
    """Images uint8 (H, W, 3) with the outlines of their masks (green) and, where given, predictions (orange, dashed)."""
    rows = -(-len(images) // columns)
    with plt.rc_context(STYLE):
        figure, grid = plt.subplots(rows, columns, figsize=(1.7 * columns, 1.95 * rows), squeeze=False)
        for axes in grid.flat:
            axes.axis("off")
        for number, axes in enumerate(grid.flat[: len(images)]):
            axes.imshow(images[number])
            outline(axes, masks[number])
            if len(predictions):
                outline(axes, predictions[number], PREDICTION, "dashed")
            axes.set_title(titles[number], fontsize=8, wrap=True)
        if len(predictions):
            styles = {"truth": (TRUTH, "solid"), "prediction": (PREDICTION, "dashed")}
            lines = [plt.Line2D([], [], color=c, linestyle=style, label=name) for name, (c, style) in styles.items()]
            figure.legend(handles=lines, loc="lower center", ncols=2, frameon=False)
        legend = 0.25 / figure.get_figheight() if len(predictions) else 0
        figure.tight_layout(pad=0.5, rect=(0, legend, 1, 1))
    return figure


def in_a_row(pictures: Mapping[str, np.ndarray]) -> Figure:
    """Pictures uint8 (H, W, 3 or 4), square or nearly so, side by side under their names."""
    with plt.rc_context(STYLE):
        figure, grid = plt.subplots(1, len(pictures), figsize=(1.7 * len(pictures), 2.15), squeeze=False)
        for axes, (name, pixels) in zip(grid.flat, pictures.items(), strict=True):
            axes.imshow(pixels)
            axes.set_title(name, fontsize=8)
            axes.axis("off")
        figure.tight_layout(pad=0.5)
    return figure


def curves_with_best(axes: plt.Axes, places: Sequence[float], curves: Mapping[str, Sequence[float]]) -> None:
    """Draw curves over `places`, a colour a name, each with a dot at its largest value."""
    for colour, (name, values) in zip(COLOURS, curves.items(), strict=False):
        best = int(np.argmax(values))
        axes.plot(places, values, color=colour, label=name)
        axes.plot(places[best], values[best], "o", color=colour)


def numbers_on_pixels(panels: Mapping[str, np.ndarray]) -> Figure:
    """Small arrays (H, W) of values in [0, 1] side by side, each pixel with its number written on it."""
    with plt.rc_context(STYLE):
        figure, grid = plt.subplots(1, len(panels), figsize=(2.3 * len(panels), 2.5), squeeze=False)
        for axes, (title, values) in zip(grid.flat, panels.items(), strict=True):
            axes.imshow(values, cmap="Blues", vmin=0, vmax=1.3)
            axes.set(title=title, xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
            for (row, column), value in np.ndenumerate(values):
                axes.text(
                    column, row, f"{value:g}", ha="center", va="center", color="white" if value > 0.7 else "black"
                )
        figure.tight_layout()
    return figure


def training_curves(histories: Mapping[str, pd.DataFrame], mean_mask: float | None = None) -> Figure:
    """Training loss and validation Dice over epochs, a colour a run; `mean_mask`, a Dice, is drawn as a floor."""
    with plt.rc_context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(8.5, 3.1), layout="constrained")
        for colour, (name, history) in zip(COLOURS, histories.items(), strict=False):
            left.plot(history["epoch"], history["train_loss"], color=colour, label=name)
            right.plot(history["epoch"], history["val_dice"], color=colour, label=name)
            best = history.loc[history["val_dice"].idxmax()]
            right.plot(best["epoch"], best["val_dice"], "o", color=colour)
        if mean_mask is not None:
            right.axhline(mean_mask, color="grey", linestyle="dotted")
            right.text(right.get_xlim()[0], mean_mask, " the mean training mask", va="bottom", color="grey")
        for axes in (left, right):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        left.set(xlabel="epoch", ylabel="loss on train (Dice + cross-entropy)", ylim=(0, None))
        right.set(xlabel="epoch", ylabel="Dice on validation", ylim=(0, 1))
        figure.legend(*left.get_legend_handles_labels(), frameon=False, loc="outside upper center", ncols=4)
    return figure


def interval_dots(table: pd.DataFrame, label: str = "model", xlabel: str = "Dice on test") -> Figure:
    """A row of `table` a line: `value` as a dot, `low` to `high` as a bar (its 95 % interval)."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(7, 0.5 + 0.42 * len(table)))
        places = np.arange(len(table))[::-1]
        axes.hlines(places, table["low"], table["high"], color=BLUE, linewidth=5, alpha=0.35)
        axes.plot(table["value"], places, "o", color=BLUE)
        for place, value in zip(places, table["value"], strict=True):
            axes.text(value, place + 0.2, f"{value:.1%}", ha="center", va="bottom", fontsize=8)
        axes.set(yticks=places, yticklabels=table[label], xlabel=xlabel, xlim=(0, 1), ylim=(-0.6, len(table) - 0.3))
        figure.tight_layout()
    return figure


def paired_differences(table: pd.DataFrame, group: str, label: str, xlabel: str) -> Figure:
    """Mean differences around a line at 0: `group` down the side, a colour for each `label`; `value`, `low`, `high` in points."""
    groups, labels = list(dict.fromkeys(table[group])), list(dict.fromkeys(table[label]))
    colours = dict(zip(labels, COLOURS, strict=False))
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(7.5, 0.8 + (0.15 + 0.17 * len(labels)) * len(groups)))
        axes.axvline(0, color="0.6", linewidth=1)
        for row in table.to_dict("records"):
            place = groups.index(row[group]) + 0.7 * (labels.index(row[label]) + 0.5) / len(labels) - 0.35
            axes.hlines(place, row["low"], row["high"], color=colours[row[label]], linewidth=3, alpha=0.4)
            axes.plot(row["value"], place, "o", color=colours[row[label]], markersize=5)
        handles = [plt.Line2D([], [], color=colour, marker="o", label=name) for name, colour in colours.items()]
        if len(labels) > 1:
            axes.legend(handles=handles, frameon=False, loc="lower center", bbox_to_anchor=(0.4, 1), ncols=4)
        axes.set(yticks=range(len(groups)), yticklabels=groups, ylim=(len(groups) - 0.5, -0.5), xlabel=xlabel)
        figure.tight_layout()
    return figure


def dice_by_size(per_image: pd.DataFrame) -> Figure:
    """Dice of each image over the share of the image that its lesion covers; images without one are left out."""
    lesions = per_image[per_image["foreground"] > 0]
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(5, 2.8))
        axes.plot(100 * lesions["foreground"], lesions["dice"], "o", color=BLUE, alpha=0.6, markersize=5)
        axes.set(xscale="log", xlabel="lesion, % of the image (log scale)", ylabel="Dice", ylim=(-0.03, 1.03))
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_locator(NullLocator())
        figure.tight_layout()
    return figure


def nested_squares(image: np.ndarray, sides: Mapping[str, int]) -> Figure:
    """Squares of `sides` pixels around the centre of an image (H, W, 3): how far each layer of a network sees."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(3.6, 3.6))
        axes.imshow(image)
        row, column = image.shape[0] / 2, image.shape[1] / 2
        for colour, (name, side) in zip(COLOURS, sides.items(), strict=False):
            corner = (column - side / 2, row - side / 2)
            axes.add_patch(plt.Rectangle(corner, side, side, fill=False, edgecolor=colour, linewidth=2, label=name))
        axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False)
        axes.axis("off")
    return figure


def channel_weights(weights: Sequence[np.ndarray], names: Sequence[str]) -> Figure:
    """The weights (C,) in [0, 1] that channel attention gives on some images, a colour an image."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(8.5, 2.2))
        for colour, values, name in zip(COLOURS, weights, names, strict=False):
            axes.plot(values, color=colour, linewidth=1, label=name)
        axes.set(xlabel="channel of the bottleneck", ylabel="weight")
        axes.legend(frameon=False, ncols=len(names), loc="lower center", bbox_to_anchor=(0.5, 1))
        figure.tight_layout()
    return figure


def similarity_matrix(images: Sequence[np.ndarray], captions: Sequence[str], cosines: np.ndarray) -> Figure:
    """Cosines (N, M) of N images (H, W, 3), across, and M captions, down; each image's closest caption is framed."""
    cell, text = 0.46, 2.6  # inches: of a cell, and for the captions
    width, height = text + cell * len(images), cell * (1 + len(captions))
    with plt.rc_context(STYLE):
        figure = plt.figure(figsize=(width, height))
        axes = figure.add_axes([text / width, 0, 1 - text / width, 1])
        shown = np.vstack([np.full(len(images), np.nan), cosines.T])  # the images take the row above
        axes.imshow(shown, cmap="Blues", vmax=shown[1:].max() + 0.3, aspect="auto")
        for column, image in enumerate(images):
            axes.imshow(image, extent=(column - 0.46, column + 0.46, 0.46, -0.46), aspect="auto")
            best = 1 + cosines[column].argmax()
            axes.add_patch(plt.Rectangle((column - 0.46, best - 0.46), 0.92, 0.92, fill=False, edgecolor=ORANGE, lw=2))
        for (row, column), value in np.ndenumerate(shown[1:]):
            dark = value - np.nanmin(shown) > 0.6 * (np.nanmax(shown) + 0.3 - np.nanmin(shown))
            colour = "white" if dark else "black"
            axes.text(column, row + 1, f"{value:.2f}", ha="center", va="center", fontsize=7, color=colour)
        axes.set(xlim=(-0.5, len(images) - 0.5), ylim=(len(captions) + 0.5, -0.5), xticks=[])
        axes.set_yticks(range(1, 1 + len(captions)), [fill(caption, 42) for caption in captions], fontsize=8)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    return figure


def probability_maps(
    images: Sequence[np.ndarray], masks: Sequence[np.ndarray], maps: Mapping[str, Sequence[np.ndarray]]
) -> Figure:
    """Images (H, W, 3), and below them a row a name: probabilities (S, S) in [0, 1] of each image, from dark (0) to bright (1).

    Every panel has the outline of the image's mask, bool (S, S), so that one sees whether the bright lies within.
    """
    with plt.rc_context(STYLE):
        shape = (1 + len(maps), len(images))
        size = (0.9 + 1.3 * shape[1], 1.3 * shape[0])
        figure, grid = plt.subplots(*shape, figsize=size, squeeze=False, layout="constrained")
        for axes in grid.flat:
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        grid[0, 0].set_ylabel("image")
        for axes, image in zip(grid[0], images, strict=True):
            axes.imshow(image)
        for row, (name, values) in zip(grid[1:], maps.items(), strict=True):
            row[0].set_ylabel(fill(name, 18))
            for axes, one in zip(row, values, strict=True):
                shown = axes.imshow(one, cmap="magma", vmin=0, vmax=1)
        figure.colorbar(shown, ax=grid, aspect=12 * shape[0], pad=0.02, ticks=[0, 0.5, 1]).outline.set_visible(False)
        for column, mask in zip(grid.T, masks, strict=True):
            for axes in column:
                outline(axes, mask)
    return figure
