import numpy as np
import pytest
from scipy import ndimage

from vlsm_helpers.data.phantoms import render


@pytest.fixture(scope="module")
def phantoms():
    return [render("phantom_skin", seed) for seed in range(60)]


def bare(phantom):
    """Healthy skin away from the lesion and from the round aperture."""
    y, x = np.indices(phantom.mask.shape) - 63.5
    return (np.hypot(y, x) < 58) & ~ndimage.binary_dilation(phantom.mask, iterations=6)


def test_tones_range_from_light_to_dark(phantoms):
    tones = [np.median(phantom.image[bare(phantom)].mean(-1)) for phantom in phantoms]
    assert min(tones) < 80
    assert max(tones) > 180
    assert 100 < np.median(tones) < 170


def test_skin_is_redder_than_it_is_blue(phantoms):
    assert all(phantom.image[bare(phantom)].mean(0) @ [1, 0, -1] > 10 for phantom in phantoms)


def test_a_lesion_is_darker_than_the_skin_beside_it_on_every_tone(phantoms):
    differences = []
    for phantom in phantoms:
        ring = ndimage.binary_dilation(phantom.mask, iterations=9) & ~ndimage.binary_dilation(
            phantom.mask, iterations=3
        )
        differences.append(np.median(phantom.image[ring]) - np.median(phantom.image[phantom.mask]))
    assert np.mean(np.array(differences) > 3) > 0.95
    assert np.median(differences) > 15


def test_faint_lesions_are_fainter(phantoms):
    def contrast(kind):
        return np.median([p.image[bare(p)].mean() / p.image[p.mask].mean() for p in phantoms if p.kind == kind])

    assert 1.03 < contrast("faint") < contrast("even")


def test_variegated_lesions_have_more_colours(phantoms):
    def spread(kind):
        return np.median([np.std(p.image[p.mask] / p.image[p.mask].mean()) for p in phantoms if p.kind == kind])

    assert spread("variegated") > spread("even")
