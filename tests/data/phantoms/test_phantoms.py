"""What holds for all four modalities; what a modality looks like is tested in the file of its name."""

import hashlib

import numpy as np
import pytest

from vlsm_helpers.data.phantoms import render, seeds

# The test splits, fixed before any model was tuned on them. A change here makes every published number void: raise
# GENERATOR_VERSION with it, and compute the numbers again.
TEST_SPLITS = {
    "phantom_endoscopy": "ad2611b34b5c1df93e9e3af691657860c737e9ea044b8d8117064395c6fa5d06",
    "phantom_ultrasound": "e2a2f19bd191ff803b3a150060dd551e9c06021ff5b0801c22fe5a8528ad74d1",
    "phantom_skin": "0213975653bbd3bc487c142b4b6e60be236fe79e72eece1fc4730d53292133d4",
    "phantom_xray": "93de56e50d9e04c306a62d0b496c708387d48579f1a6cd91df4e39738b19f00b",
}


@pytest.fixture(scope="module", params=TEST_SPLITS)
def split(request):
    """The name of a phantom dataset and its whole test split, drawn once."""
    return request.param, [render(request.param, seed) for seed in seeds(request.param, "test")]


def dice(one, other):
    return 2 * np.sum(one & other) / (np.sum(one) + np.sum(other))


def test_the_test_split_never_changes(split):
    name, phantoms = split
    digest = hashlib.sha256()
    for phantom in phantoms:
        digest.update(phantom.image.tobytes())
        digest.update(np.packbits(phantom.mask).tobytes())
    assert digest.hexdigest() == TEST_SPLITS[name]


def test_masks_are_of_sane_size(split):
    shares = np.array([phantom.mask.mean() for phantom in split[1] if phantom.mask.any()])
    assert len(shares) >= 75
    assert shares.min() > 0.002
    assert shares.max() < 0.35
    assert 0.02 < np.median(shares) < 0.15


def test_every_kind_occurs(split):
    kinds = [phantom.kind for phantom in split[1]]
    assert len(set(kinds)) == 3
    assert all(kinds.count(kind) >= 8 for kind in set(kinds))


def test_the_mean_mask_knows_little(split):
    """Places vary: the average of half the masks, at its best threshold for the other half, is a poor answer."""
    masks = [phantom.mask for phantom in split[1] if phantom.mask.any()]
    mean = np.mean(masks[::2], axis=0)
    scores = {
        at: np.mean([dice(mean > at * mean.max(), mask) for mask in masks[1::2]]) for at in np.arange(0.1, 1, 0.1)
    }
    print(f"{split[0]}: mean-mask Dice {max(scores.values()):.3f}")
    assert max(scores.values()) < 0.5


def test_the_same_scene_at_any_size_and_difficulty(split):
    name, phantoms = split
    for seed, phantom in list(zip(seeds(name, "test"), phantoms, strict=True))[:5]:
        if phantom.mask.any():
            larger = render(name, seed, size=256).mask.reshape(128, 2, 128, 2).mean((1, 3)) > 0.5
            assert dice(phantom.mask, larger) > 0.9
            assert dice(phantom.mask, render(name, seed, "easy").mask) > 0.75
            assert dice(phantom.mask, render(name, seed, "hard").mask) > 0.65


def test_the_full_profiles_size():
    phantom = render("phantom_endoscopy", 0, size=352)
    assert phantom.image.shape == (352, 352, 3)
    assert phantom.mask.shape == (352, 352)
