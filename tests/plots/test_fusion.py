import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from vlsm_helpers.metrics.calibration import reliability, risk_coverage
from vlsm_helpers.plots import fusion as fusion_plots

DICE = {"UNet-D": np.array([0.1, 0.9]), "CLIPSeg": np.array([0.4, 0.2])}


@pytest.mark.parametrize(
    "figure",
    [
        lambda: fusion_plots.dice_by_weight([0, 0.5, 1], {"probabilities": [0.2, 0.6, 0.3]}, "UNet-D"),
        lambda: fusion_plots.dice_against(DICE, [("UNet-D", "CLIPSeg")]),
        lambda: fusion_plots.reliability_diagrams(
            {"UNet-D": reliability(torch.tensor([[[0.1, 0.9]]]), torch.tensor([[[False, True]]]))}
        ),
        lambda: fusion_plots.risk_by_coverage({"doubt": risk_coverage(np.array([0.3, 0.1]), DICE["UNet-D"])}),
    ],
)
def test_a_figure_is_drawn_on_white(figure):
    drawn = figure()
    assert isinstance(drawn, Figure)
    drawn.canvas.draw()
    assert np.asarray(drawn.canvas.buffer_rgba())[0, 0, :3].tolist() == [255, 255, 255]
    fusion_plots.plt.close(drawn)


def test_the_best_weight_is_marked():
    axes = fusion_plots.dice_by_weight([0, 0.5, 1], {"probabilities": [0.2, 0.6, 0.3]}, "UNet-D").axes[0]
    marks = [line.get_xydata().tolist() for line in axes.lines if len(line.get_xydata()) == 1]
    assert marks == [[[0.5, 0.6]]]


def test_a_reliability_diagram_says_its_errors():
    one = reliability(torch.tensor([[[0.2, 0.8]]]), torch.tensor([[[False, True]]]))
    title = fusion_plots.reliability_diagrams({"UNet-D": one}).axes[0].get_title()
    assert title == "UNet-D\nECE 0.200, Brier 0.040"
