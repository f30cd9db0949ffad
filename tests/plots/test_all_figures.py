"""Every figure draws, on white, with what a reader needs: a label on each axis that has ticks, or no ticks at all."""

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

from vlsm_helpers import plots
from vlsm_helpers.metrics.calibration import reliability

IMAGE = np.full((32, 32, 3), 90, np.uint8)
SQUARE = np.zeros((32, 32), bool)
SQUARE[8:18, 8:18] = True
GUESS = np.where(SQUARE, 0.8, 0.1)
HISTORY = pd.DataFrame({"epoch": [1, 2, 3], "train_loss": [1.5, 1.0, 0.8], "val_dice": [0.2, 0.6, 0.5]})
INTERVALS = pd.DataFrame(
    {"model": ["a", "b"], "kind": ["x", "y"], "value": [0.5, 0.7], "low": [0.4, 0.6], "high": [0.6, 0.8]}
)
CURVES = pd.concat([INTERVALS.assign(dataset="d", images=images) for images in (20, 200)])
SHIFT = pd.DataFrame({"trained_on": "a", "dataset": ["b", "a"], "model": "m", "value": [0.4, 0.6]})
DICE = {"UNet-D": np.array([0.1, 0.9]), "CLIPSeg": np.array([0.4, 0.2])}
CALIBRATION = reliability(torch.tensor([[[0.1, 0.9]]]), torch.tensor([[[False, True]]]))

FIGURES = {
    "image_grid": lambda: plots.image_grid([IMAGE] * 5, [SQUARE] * 5, list("abcde"), [SQUARE] * 5, columns=3),
    "image_row": lambda: plots.image_row({"one": IMAGE, "two": np.zeros((8, 9, 4), np.uint8)}),
    "image_patches": lambda: plots.image_patches(IMAGE, 8),
    "map_grid": lambda: plots.map_grid({"a": {"image": IMAGE, "map": GUESS}, "b": {"image": IMAGE}}, "probability"),
    "probability_maps": lambda: plots.probability_maps([IMAGE] * 2, [SQUARE] * 2, {"a": [GUESS] * 2}),
    "prompt_predictions": lambda: plots.prompt_predictions([IMAGE], [SQUARE], {"": [GUESS], "polyp": [1 - GUESS]}),
    "receptive_fields": lambda: plots.receptive_fields(IMAGE, {"level 1": 5, "level 2": 12}),
    "pixel_values": lambda: plots.pixel_values({"mask": SQUARE[:4, :4] * 1.0, "p": np.full((4, 4), 0.25)}),
    "cosine_matrix": lambda: plots.cosine_matrix(np.eye(3), list("abc")),
    "film_parameters": lambda: plots.film_parameters(np.ones((2, 5)), np.eye(2, 5), ["a", "b"]),
    "image_text_similarity": lambda: plots.image_text_similarity([IMAGE] * 2, list("abc"), np.eye(2, 3)),
    "curves": lambda: plots.curves({"polyp": ([0.25, 0.5], [0.1, 0.4])}, "threshold", "Dice", mark_best=True),
    "training_curves": lambda: plots.training_curves({"ours": HISTORY, "published": HISTORY}, mean_mask=0.3),
    "channel_weights": lambda: plots.channel_weights({"before": {"image 1": np.linspace(0, 1, 9)}}),
    "learning_curves": lambda: plots.learning_curves(CURVES),
    "in_and_out_of_domain": lambda: plots.in_and_out_of_domain(SHIFT),
    "score_forest": lambda: plots.score_forest(INTERVALS),
    "difference_forest": lambda: plots.difference_forest(INTERVALS, "model", "points", colour="kind", panel="kind"),
    "dice_by_size": lambda: plots.dice_by_size(pd.DataFrame({"foreground": [0.0, 0.1], "dice": [1.0, 0.5]})),
    "dice_scatter": lambda: plots.dice_scatter(DICE, [("UNet-D", "CLIPSeg")]),
    "gain_by_disagreement": lambda: plots.gain_by_disagreement(np.linspace(0, 0.4, 9), np.linspace(-0.1, 0.3, 9)),
    "errors_by_uncertainty": lambda: plots.errors_by_uncertainty(
        [np.array([[0.05, 1.0]])], [np.array([[False, True]])]
    ),
    "reliability_diagrams": lambda: plots.reliability_diagrams({"UNet-D": CALIBRATION}),
}
NO_FIGURES = {"COLOURS", "GROUND_TRUTH", "PREDICTION", "STYLE", "frame_patch", "outline", "show", "styled"}
NO_FIGURES |= {"overlay", "probability_overlay", "simplex_map"}  # pixels: test_overlays
NEED_NETWORKS = {"clipseg_diagram", "ensemble_a_diagram", "unet_d_diagram"}  # test_diagrams
NAMED_TICKS = {"score_forest", "difference_forest", "cosine_matrix", "image_text_similarity", "film_parameters"}


def test_every_public_figure_is_drawn_here():
    assert FIGURES.keys() == set(dir(plots)) - NO_FIGURES - NEED_NETWORKS


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_drawn_on_white_and_its_axes_have_their_quantity(name):
    figure = FIGURES[name]()
    assert isinstance(figure, Figure)
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())
    assert tuple(pixels[0, 0][:3]) == (255, 255, 255)
    assert pixels.std() > 5
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            shared = axes.get_subplotspec() is not None and not all(
                t.label1.get_visible() for t in axis.get_major_ticks()
            )
            ticks = axes.axison and axis.get_visible() and len(axis.get_ticklocs()) and not shared
            assert not ticks or axis.get_label_text() or name in NAMED_TICKS or "colorbar" in axes.get_label(), axis
