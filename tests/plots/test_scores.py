import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from vlsm_helpers.plots import scores as paper_plots

CURVES = pd.DataFrame(
    [
        {"dataset": "d", "model": model, "images": images, "value": 0.5, "low": 0.4, "high": 0.6}
        for model in ("one", "two")
        for images in (20, 200)
    ]
)
SHIFT = pd.DataFrame(
    [
        {"trained_on": "a", "dataset": dataset, "model": model, "value": value}
        for model, value in (("one", 0.4), ("two", 0.6))
        for dataset in ("b", "a")
    ]
)


@pytest.mark.parametrize(
    "figure",
    [
        lambda: paper_plots.learning_curves(CURVES),
        lambda: paper_plots.in_and_out_of_domain(SHIFT),
        lambda: paper_plots.gain_by_disagreement(np.linspace(0, 0.4, 9), np.linspace(-0.1, 0.3, 9)),
        lambda: paper_plots.errors_by_uncertainty([np.array([[0.05, 1.0]])], [np.array([[False, True]])]),
        lambda: paper_plots.intervals_by_what_varies({"images": (1.0, 0.5, 1.5)}, "points"),
    ],
)
def test_a_figure_is_drawn_on_white(figure):
    drawn = figure()
    assert isinstance(drawn, Figure)
    drawn.canvas.draw()
    assert np.asarray(drawn.canvas.buffer_rgba())[0, 0, :3].tolist() == [255, 255, 255]
    paper_plots.plt.close(drawn)


def test_home_comes_first():
    axes = paper_plots.in_and_out_of_domain(SHIFT).axes[0]
    assert [label.get_text().split("\n")[-1] for label in axes.get_xticklabels()] == ["a", "b"]
    assert axes.lines[0].get_ydata().tolist() == [0.4, 0.4]


def test_quarters_are_of_images_sorted_by_disagreement():
    gain = np.array([0.4, 0.0, 0.2, 0.1])
    axes = paper_plots.gain_by_disagreement(np.array([0.4, 0.1, 0.3, 0.2]), gain, pieces=2).axes[0]
    steps = [line.get_ydata()[0] for line in axes.lines if line.get_linewidth() == 3]
    assert steps == pytest.approx([0.05, 0.3])


def test_wrong_pixels_are_counted_by_their_bits():
    bits, wrong = np.array([[0.05, 0.04, 1.0, 0.99]]), np.array([[False, True, True, True]])
    left, _ = paper_plots.errors_by_uncertainty([bits], [wrong]).axes
    heights = [patch.get_height() for patch in left.patches]
    assert (heights[0], heights[-1]) == (50, 100)
    assert np.isnan(heights[5])
