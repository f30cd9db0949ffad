import numpy as np
import pandas as pd

from vlsm_helpers import plots


def test_a_dot_marks_the_best_value():
    lines = {"polyp": ([0.25, 0.5, 0.75], [0.1, 0.2, 0.4]), "": ([0.25, 0.5], [0.3, 0.1])}
    axes = plots.curves(lines, "threshold", "Dice", mark_best=True).axes[0]
    dots = [line.get_xydata().tolist() for line in axes.lines if len(line.get_xydata()) == 1]
    assert dots == [[[0.75, 0.4]], [[0.25, 0.3]]]


def test_more_lines_than_colours_are_all_drawn():
    lines = {str(number): ([0, 1], [0, number]) for number in range(len(plots.COLOURS) + 1)}
    assert len(plots.curves(lines, "x", "y").axes[0].lines) == len(lines)


def test_equal_weights_of_channels_stay_visible_and_all_panels_share_an_axis():
    same = np.full(5, 0.5)
    figure = plots.channel_weights({"before": {"1": same, "2": same}, "after": {"1": same / 2, "2": same}})
    widths = [line.get_linewidth() for line in figure.axes[0].lines]
    assert widths[0] > widths[1]
    assert [axes.get_ylim() for axes in figure.axes] == [(0, 1), (0, 1)]


def test_every_seed_has_a_line_and_the_mean_a_thicker_one():
    rows = [("one", seed, images, seed / 10 + images / 100) for seed in (0, 1, 2) for images in (10, 20)]
    table = pd.DataFrame(rows, columns=["model", "seed", "images", "value"]).assign(dataset="d")
    axes = plots.learning_curves(table).axes[0]
    *seeds, mean = axes.lines
    np.testing.assert_allclose([line.get_ydata() for line in seeds], [[0.1, 0.2], [0.2, 0.3], [0.3, 0.4]])
    np.testing.assert_allclose(mean.get_ydata(), [0.2, 0.3])
    assert mean.get_linewidth() > seeds[0].get_linewidth()


def test_the_in_domain_dataset_comes_first():
    shift = [("b", "one", 0.4), ("a", "one", 0.5), ("b", "two", 0.6), ("a", "two", 0.7)]
    table = pd.DataFrame(shift, columns=["dataset", "model", "value"]).assign(trained_on="a")
    axes = plots.in_and_out_of_domain(table).axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["in-domain\na", "out-of-domain\nb"]
    one, two = axes.lines
    assert one.get_ydata().tolist() == [0.5, 0.4]
    assert one.get_xdata()[0] < two.get_xdata()[0]
