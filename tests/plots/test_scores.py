import numpy as np
import pandas as pd
import pytest
import torch

from vlsm_helpers import plots
from vlsm_helpers.metrics.calibration import reliability

DIFFERENCES = pd.DataFrame(
    [("skin", "A", 2.0, 1.0, 3.0), ("skin", "B", -1.0, -2.0, 0.5), ("xray", "A", 3.0, 1.0, 5.0)],
    columns=["dataset", "ensemble", "value", "low", "high"],
)


def dots(axes):
    """Position (x, y), edge colour and face colour of each dot."""
    lines = [line for line in axes.lines if len(line.get_xydata()) == 1]
    return [(*line.get_xydata()[0], line.get_color(), line.get_markerfacecolor()) for line in lines]


def test_differences_of_one_line_stand_together_each_in_its_colour():
    axes = plots.difference_forest(DIFFERENCES, "dataset", "points of Dice", colour="ensemble").axes[0]
    (_, first, a, _), (_, second, b, _), (_, third, again, _) = dots(axes)
    assert [round(y) for y in (first, second, third)] == [0, 0, 1]
    assert a == again != b
    assert [label.get_text() for label in axes.get_yticklabels()] == ["skin", "xray"]


def test_a_filled_dot_is_an_interval_that_excludes_zero():
    axes = plots.difference_forest(DIFFERENCES, "dataset", "points of Dice", colour="ensemble").axes[0]
    assert [face == edge for _, _, edge, face in dots(axes)] == [True, False, True]
    assert "95 % CI" in axes.get_xlabel()


def test_each_value_of_a_panel_column_has_its_panel_and_scores_share_the_axis():
    figure = plots.difference_forest(DIFFERENCES, "ensemble", "points of Dice", panel="dataset")
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["skin", "xray"]
    assert [len(dots(axes)) for axes in figure.axes] == [2, 1]
    assert figure.axes[0].get_xlim() == figure.axes[1].get_xlim()


def test_a_legend_of_one_colour_is_left_out():
    for rows, legends in ((DIFFERENCES, 1), (DIFFERENCES[DIFFERENCES["ensemble"] == "A"], 0)):
        assert len(plots.difference_forest(rows, "dataset", "points", colour="ensemble").legends) == legends


def test_scores_are_listed_from_the_top_with_their_values():
    axes = plots.score_forest(pd.DataFrame({"model": ["a", "b"], "value": [0.5, 0.7], "low": 0.4, "high": 0.8})).axes[0]
    assert axes.yaxis_inverted()
    assert [text.get_text() for text in axes.texts] == ["50.0%", "70.0%"]


def test_images_without_a_lesion_are_left_out_of_the_sizes():
    per_image = pd.DataFrame({"foreground": [0.0, 0.1, 0.3], "dice": [1.0, 0.5, 0.9]})
    assert plots.dice_by_size(per_image).axes[0].lines[0].get_xdata().tolist() == [10, 30]


def test_groups_are_of_images_sorted_by_disagreement():
    gain = np.array([0.4, 0.0, 0.2, 0.1])
    axes = plots.gain_by_disagreement(np.array([0.4, 0.1, 0.3, 0.2]), gain, groups=2).axes[0]
    means = [group.lines[0].get_ydata()[0] for group in axes.containers]
    assert means == pytest.approx([0.05, 0.3])


def test_wrong_pixels_are_counted_by_their_bits():
    bits, wrong = np.array([[0.05, 0.04, 1.0, 0.99]]), np.array([[False, True, True, True]])
    left, _ = plots.errors_by_uncertainty([bits], [wrong]).axes
    heights = [patch.get_height() for patch in left.patches]
    assert (heights[0], heights[-1]) == (50, 100)
    assert np.isnan(heights[5])


def test_a_reliability_diagram_states_its_errors():
    one = reliability(torch.tensor([[[0.2, 0.8]]]), torch.tensor([[[False, True]]]))
    assert plots.reliability_diagrams({"UNet-D": one}).axes[0].get_title() == "UNet-D\nECE 0.200, Brier 0.040"
