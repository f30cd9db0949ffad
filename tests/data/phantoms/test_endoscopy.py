import numpy as np
import pytest
from scipy import ndimage

from vlsm_helpers.data.phantoms import render
from vlsm_helpers.data.prompts import components

SEEDS = range(40)


@pytest.fixture(scope="module")
def phantoms():
    return [render("phantom_endoscopy", seed) for seed in SEEDS]


def around(mask):
    """A ring beside the mask."""
    return ndimage.binary_dilation(mask, iterations=8) & ~ndimage.binary_dilation(mask, iterations=2)


def test_tissue_is_red(phantoms):
    colours = np.array([phantom.image[phantom.image.sum(-1) > 150].mean(0) for phantom in phantoms])
    assert np.mean((colours[:, 0] > colours[:, 1] + 15) & (colours[:, 0] > colours[:, 2] + 15)) > 0.85


def test_most_frames_have_dark_corners(phantoms):
    assert 0.7 < np.mean([phantom.image[:3, :3].mean() < 30 for phantom in phantoms]) < 1


def test_a_polyp_differs_from_the_wall_beside_it(phantoms):
    differences = [
        np.abs(phantom.image[phantom.mask].mean(0) - phantom.image[around(phantom.mask)].mean(0)).max()
        for phantom in phantoms
    ]
    assert np.median(differences) > 10


def test_the_easier_the_plainer():
    def difference(difficulty):
        pictures = [render("phantom_endoscopy", seed, difficulty) for seed in SEEDS[:20]]
        return np.median([np.ptp([p.image[p.mask].mean(), p.image[around(p.mask)].mean()]) for p in pictures])

    assert difference("easy") > difference("hard")


def test_one_polyp_usually_sometimes_two(phantoms):
    numbers = [len(components(phantom.mask)) for phantom in phantoms]
    assert set(numbers) <= {1, 2, 3}  # an instrument may cut one in two
    assert 0.7 < np.mean(np.array(numbers) == 1) < 0.97


def test_the_masks_stay_inside_the_frame(phantoms):
    outside = [phantom.image[phantom.mask].sum(-1) < 20 for phantom in phantoms]
    assert np.mean([dark.mean() for dark in outside]) < 0.01


def test_flat_polyps_are_flatter_than_sessile_ones(phantoms):
    def relief(kind):
        return np.median([p.image[p.mask].astype(float).mean(-1).std() for p in phantoms if p.kind == kind])

    assert relief("flat") < relief("sessile")
