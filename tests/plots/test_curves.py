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


def test_best_dots_on_the_same_point_are_all_visible():
    same = ([0.25, 0.5], [0.1, 0.2])
    axes = plots.curves({"one": same, "two": same}, "threshold", "Dice", mark_best=True).axes[0]
    one, two = (line.get_markersize() for line in axes.lines if len(line.get_xydata()) == 1)
    assert one > two


def test_seeds_are_thin_lines_beside_the_mean():
    table = pd.DataFrame({"dataset": "d", "model": "m", "images": [20, 200], "value": [0.2, 0.6]})
    table = table.assign(low=0.1, high=0.7, seeds=[(0.1, 0.3), (0.5, 0.7)])
    axes = plots.learning_curves(table).axes[0]
    mean, *seeds = (line.get_ydata().tolist() for line in axes.lines)
    assert (mean, seeds) == ([0.2, 0.6], [[0.1, 0.5], [0.3, 0.7]])


def test_a_panel_of_similar_values_is_not_squeezed_by_one_of_different_values():
    table = pd.DataFrame({"dataset": ["a", "a", "b", "b"], "model": "m", "images": [20, 200, 20, 200]})
    table = table.assign(value=[0.1, 0.9, 0.5, 0.6], low=[0.0, 0.8, 0.45, 0.55], high=[0.2, 1.0, 0.55, 0.65])
    wide, narrow = (np.ptp(axes.get_ylim()) for axes in plots.learning_curves(table).axes)
    assert 0.2 <= narrow < 0.4 < 1 <= wide


def test_a_panel_holds_one_test_set_and_the_in_domain_training_comes_first():
    shift = [("b", "one", 0.4), ("a", "one", 0.5), ("b", "two", 0.6), ("a", "two", 0.7)]
    table = pd.DataFrame(shift, columns=["trained_on", "model", "value"]).assign(dataset="a")
    axes = plots.in_and_out_of_domain(table).axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["in-domain\na", "out-of-domain\nb"]
    assert axes.lines[0].get_ydata().tolist() == [0.5, 0.4]
