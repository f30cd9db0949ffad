from io import BytesIO

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_rgb
from PIL import Image

from vlsm_helpers.fusion.search import simplex
from vlsm_helpers.plots.base import PREDICTION, TRUTH
from vlsm_helpers.plots.overlays import MARGIN, jpeg, overlay, png, probability_map, triangle

POINTS = np.array(list(simplex(3, 10))) / 10
TOP, LEFT, RIGHT = np.eye(3)


def where(pixels, colour):
    """The box (first row, last row, first column, last column) around the pixels of a colour; None where there is none."""
    rows, columns = np.nonzero((pixels[..., :3] == np.uint8(255 * np.array(to_rgb(colour)) + 0.5)).all(axis=-1))
    return (rows.min(), rows.max(), columns.min(), columns.max()) if len(rows) else None


def squares():
    """A truth of 10 x 10 and what is marked, of 40 x 40."""
    truth, marked = np.zeros((10, 10), bool), np.zeros((40, 40), bool)
    truth[2:5, 3:6] = True
    marked[20:30, 24:36] = True
    return truth, marked


def test_truth_and_prediction_are_outlined_where_they_are():
    truth, marked = squares()
    for pixels in (
        overlay(np.full((20, 20, 3), 200, np.uint8), truth, marked),
        probability_map(0.5 * marked, truth, marked),
    ):
        assert pixels.shape == (40, 40, 3)
        assert where(pixels, TRUTH) == (8, 19, 12, 23)
        assert where(pixels, PREDICTION) == (20, 29, 24, 35)


def test_only_the_picture_is_tinted():
    truth, marked = squares()
    picture = overlay(np.full((20, 20, 3), 200, np.uint8), truth, marked)
    assert (picture[0, 0] == 200).all()
    assert picture[25, 30, 2] < 200, "orange has no blue"
    probabilities = np.where(marked, 0.8, 0.2)
    assert probability_map(probabilities, truth, marked)[25, 30].tolist() == [204] * 3
    assert probability_map(probabilities, truth, marked)[0, 0].tolist() == [51] * 3


def test_corners_of_the_triangle_are_the_members():
    for bright, place in (
        (TOP, (MARGIN + 4, 100)),
        (LEFT, (-MARGIN - 4, MARGIN + 6)),
        (RIGHT, (-MARGIN - 4, -MARGIN - 6)),
    ):
        pixels = triangle(POINTS, POINTS @ bright, 100, [0.4, 0.3, 0.3], [0.4, 0.3, 0.3])
        assert pixels.shape[1:] == (200, 4)
        assert pixels[place].tolist() == list(colormaps["viridis"](1.0, bytes=True))
        assert pixels[0, 0, 3] == 0, "outside it is transparent"


def test_equal_values_are_one_colour():
    pixels = triangle(POINTS, np.ones(len(POINTS)), 100, TOP, TOP)
    assert len(np.unique(pixels[100:].reshape(-1, 4), axis=0)) == 2


def test_marks_move_with_what_they_mark():
    values = POINTS @ TOP
    here = triangle(POINTS, values, 100, LEFT, TOP)
    moved, better = triangle(POINTS, values, 100, RIGHT, TOP), triangle(POINTS, values, 100, LEFT, RIGHT)
    changed = np.nonzero((here != moved).any(axis=-1))
    assert changed[0].min() > 120
    assert where(here, "white") != where(better, "white")


def test_files_hold_their_pixels():
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    np.testing.assert_array_equal(Image.open(BytesIO(png(pixels))), pixels)
    smooth = np.full((32, 32, 3), (200, 120, 80), np.uint8)
    difference = np.asarray(Image.open(BytesIO(jpeg(smooth))), int) - smooth
    assert np.abs(difference).max() <= 3
