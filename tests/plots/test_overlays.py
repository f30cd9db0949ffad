from io import BytesIO

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_rgb
from PIL import Image

from vlsm_helpers.fusion.search import simplex
from vlsm_helpers.plots.base import GROUND_TRUTH, PREDICTION
from vlsm_helpers.plots.overlays import MARGIN, jpeg, overlay, png, probability_overlay, simplex_map

POINTS = np.array(list(simplex(3, 10))) / 10
TOP, LEFT, RIGHT = np.eye(3)


def where(pixels, colour):
    """The box (first row, last row, first column, last column) around the pixels of a colour; None where there is none."""
    rows, columns = np.nonzero((pixels[..., :3] == np.uint8(255 * np.array(to_rgb(colour)) + 0.5)).all(axis=-1))
    return (rows.min(), rows.max(), columns.min(), columns.max()) if len(rows) else None


def squares():
    """A ground ground_truth of 10 x 10 and a prediction of 40 x 40 pixels."""
    ground_truth, prediction = np.zeros((10, 10), bool), np.zeros((40, 40), bool)
    ground_truth[2:5, 3:6] = True
    prediction[20:30, 24:36] = True
    return ground_truth, prediction


def test_ground_truth_and_prediction_are_outlined_where_they_are():
    ground_truth, prediction = squares()
    for pixels in (
        overlay(np.full((20, 20, 3), 200, np.uint8), ground_truth, prediction),
        probability_overlay(0.5 * prediction, ground_truth, prediction),
    ):
        assert pixels.shape == (40, 40, 3)
        assert where(pixels, GROUND_TRUTH) == (8, 19, 12, 23)
        assert where(pixels, PREDICTION) == (20, 29, 24, 35)


def test_only_the_image_is_tinted():
    ground_truth, prediction = squares()
    pixels = overlay(np.full((20, 20, 3), 200, np.uint8), ground_truth, prediction)
    assert (pixels[0, 0] == 200).all()
    assert pixels[25, 30, 2] < 200, "orange has no blue"
    probabilities = np.where(prediction, 0.8, 0.2)
    assert probability_overlay(probabilities, ground_truth, prediction)[25, 30].tolist() == [204] * 3
    assert probability_overlay(probabilities, ground_truth, prediction)[0, 0].tolist() == [51] * 3


def test_corners_of_the_triangle_are_the_members():
    for bright, place in (
        (TOP, (MARGIN + 4, 100)),
        (LEFT, (-MARGIN - 4, MARGIN + 6)),
        (RIGHT, (-MARGIN - 4, -MARGIN - 6)),
    ):
        pixels = simplex_map(POINTS, POINTS @ bright, 100, [0.4, 0.3, 0.3], [0.4, 0.3, 0.3])
        assert pixels.shape[1:] == (200, 4)
        assert pixels[place].tolist() == list(colormaps["viridis"](1.0, bytes=True))
        assert pixels[0, 0, 3] == 0, "outside it is transparent"


def test_equal_values_are_one_colour():
    pixels = simplex_map(POINTS, np.ones(len(POINTS)), 100, TOP, TOP)
    assert len(np.unique(pixels[100:].reshape(-1, 4), axis=0)) == 2


def test_markers_move_with_their_points():
    values = POINTS @ TOP
    here = simplex_map(POINTS, values, 100, LEFT, TOP)
    moved, better = simplex_map(POINTS, values, 100, RIGHT, TOP), simplex_map(POINTS, values, 100, LEFT, RIGHT)
    changed = np.nonzero((here != moved).any(axis=-1))
    assert changed[0].min() > 120
    assert where(here, "white") != where(better, "white")


def test_files_hold_their_pixels():
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    np.testing.assert_array_equal(Image.open(BytesIO(png(pixels))), pixels)
    smooth = np.full((32, 32, 3), (200, 120, 80), np.uint8)
    difference = np.asarray(Image.open(BytesIO(jpeg(smooth))), int) - smooth
    assert np.abs(difference).max() <= 3
