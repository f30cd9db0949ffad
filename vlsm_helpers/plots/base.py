"""Style and colours that all figures share, outlines of masks, and `show()`, which puts a figure on the page."""

from collections.abc import Callable
from functools import wraps
from typing import TypeVar

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import display
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

# The palette of Okabe and Ito, which people with colour vision deficiency can tell apart.
BLUE, ORANGE, GREEN, RED, PURPLE, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
COLOURS = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY, "0.3")
GROUND_TRUTH, PREDICTION = GREEN, ORANGE
STYLE = {
    "figure.facecolor": "white",  # so that text stays legible on a page with a dark theme
    "figure.dpi": 100,
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
}

Draw = TypeVar("Draw", bound=Callable[..., Figure])


def styled(draw: Draw) -> Draw:
    """Decorate a function that draws a figure, so that it draws in STYLE and leaves matplotlib's settings as they were."""

    @wraps(draw)
    def draw_in_style(*args, **options) -> Figure:
        with plt.rc_context(STYLE):
            return draw(*args, **options)

    return draw_in_style


def show(figure: Figure, alt: str) -> None:
    """Display the figure once, with `alt` as its alternative text: a sentence for readers who cannot see it."""
    display(figure, metadata={"image/png": {"alt": alt}})
    plt.close(figure)


def fill_prediction(axes: plt.Axes, mask: np.ndarray) -> None:
    """Tint a predicted mask, bool (H, W), and outline it with a thin dashed line: fragments do not hide the image."""
    tint = np.zeros((*mask.shape, 4))
    tint[mask] = to_rgba(PREDICTION, 0.3)
    axes.imshow(tint, interpolation="nearest")
    outline(axes, mask, PREDICTION, "dashed", width=1.0)


def outline(
    axes: plt.Axes, mask: np.ndarray, colour: str = GROUND_TRUTH, style: str = "solid", width: float = 1.6
) -> None:
    """Draw the outline of a mask, bool (H, W), over what `axes` shows. An empty or full mask has no outline."""
    if mask.any() and not mask.all():
        lines = axes.contour(mask, levels=[0.5], colors=colour, linewidths=width, linestyles=style)
        lines.set_path_effects([withStroke(linewidth=width + 1, foreground="0.15")])  # visible on any background


def outline_legend(figure: Figure) -> None:
    """Name the two outlines below a figure that shows both ground truth and prediction."""
    styles = {"ground truth": (GROUND_TRUTH, "solid"), "prediction": (PREDICTION, "dashed")}
    lines = [plt.Line2D([], [], color=c, linestyle=style, label=name) for name, (c, style) in styles.items()]
    figure.legend(handles=lines, loc="outside lower center", ncols=2, frameon=False)


def bare(axes: plt.Axes) -> None:
    """Remove ticks and frame from axes that show an image; a label stays."""
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
