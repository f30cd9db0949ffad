import numpy as np
import pytest
from scipy import ndimage

from vlsm_helpers.data.phantoms import render, seeds

SEEDS = range(60)


@pytest.fixture(scope="module")
def phantoms():
    return [render("phantom_ultrasound", seed, "easy") for seed in SEEDS]


def of_kind(phantoms, kind):
    return [phantom for phantom in phantoms if phantom.kind == kind]


def under(phantom):
    """How much brighter it is under the tumour than at the same depth beside it, in levels of 255."""
    rows, columns = np.nonzero(phantom.mask)
    depth = slice(rows.max() + 4, min(rows.max() + 20, 128))
    middle = phantom.image[depth, columns.min() + 3 : columns.max() - 2, 0]
    left, right = phantom.image[depth, : max(columns.min() - 8, 1), 0], phantom.image[depth, columns.max() + 8 :, 0]
    return middle.mean() - np.concatenate([left.ravel(), right.ravel()]).mean()


def test_pictures_are_grey(phantoms):
    assert all(np.ptp(phantom.image, axis=2).max() == 0 for phantom in phantoms)


def test_normals_are_about_a_sixth_and_have_no_mask():
    drawn = [
        render("phantom_ultrasound", seed, size=32)
        for split in ("train", "val", "test")
        for seed in seeds("phantom_ultrasound", split)
    ]
    normal = [phantom for phantom in drawn if phantom.kind == "normal"]
    assert 0.13 < len(normal) / len(drawn) < 0.19
    assert not any(phantom.mask.any() for phantom in normal)


def test_tumours_are_darker_than_the_tissue_around(phantoms):
    for phantom in phantoms:
        if phantom.mask.any():
            ring = ndimage.binary_dilation(phantom.mask, iterations=8) & ~phantom.mask
            assert phantom.image[phantom.mask].mean() < phantom.image[ring].mean() - 10


def test_it_is_bright_under_benign_tumours_and_dark_under_malignant_ones(phantoms):
    enhancement = [np.median([under(p) for p in of_kind(phantoms, kind)]) for kind in ("benign", "malignant")]
    assert enhancement[0] > 5
    assert enhancement[1] < -5


def test_malignant_outlines_are_rougher(phantoms):
    def roughness(phantom):
        edge = phantom.mask & ~ndimage.binary_erosion(phantom.mask)
        return edge.sum() / np.sqrt(phantom.mask.sum())

    benign, malignant = (np.median([roughness(p) for p in of_kind(phantoms, k)]) for k in ("benign", "malignant"))
    assert malignant > 1.05 * benign


def test_tissue_lies_in_layers_under_speckle(phantoms):
    rows = np.mean([phantom.image[..., 0] for phantom in of_kind(phantoms, "normal")], axis=(0, 2))
    assert rows[:3].mean() > 1.5 * rows[10:20].mean()  # skin over fat
    assert rows[40:60].mean() > rows[110:].mean()  # gland over muscle
    grain = [np.abs(np.diff(phantom.image[..., 0].astype(float), axis=0)).mean() for phantom in phantoms]
    assert 2 < np.median(grain) < 15
