import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.no_network import run_without_network
from vlsm_helpers.data.transforms import build_transforms, reseed


def picture(size=48):
    image = np.zeros((size, size, 3), np.uint8)
    image[:, : size // 2] = 200  # bright on the left
    mask = np.zeros((size, size), np.uint8)
    mask[size // 3 : 2 * size // 3, : size // 3] = 1
    return image, mask


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_the_mask_stays_binary_and_sizes_are_as_asked(seed):
    transform = build_transforms(True, 32)
    reseed(transform, seed)
    image, mask = picture()
    changed = transform(image=image, mask=mask)
    assert changed["image"].shape == (32, 32, 3)
    assert changed["image"].dtype == np.uint8
    assert changed["mask"].shape == (32, 32)
    assert set(np.unique(changed["mask"])) <= {0, 1}


def test_image_and_mask_move_together():
    transform = build_transforms(True, 64)
    for seed in range(30):
        reseed(transform, seed)
        square = np.zeros((64, 64), np.uint8)
        square[24:44, 10:30] = 1
        changed = transform(image=np.repeat(square[..., None] * 220, 3, axis=2), mask=square)
        bright = changed["image"].mean(axis=2) > 110
        both = (bright & (changed["mask"] > 0)).sum()
        assert 2 * both / (bright.sum() + changed["mask"].sum()) > 0.9


def test_a_seed_makes_the_draw_repeatable():
    image, mask = picture()
    transform = build_transforms(True, 48)

    def draws(seeds):
        for seed in seeds:
            reseed(transform, seed)
            yield transform(image=image, mask=mask)["image"]

    first, again = list(draws(range(20))), list(draws(range(20)))
    np.testing.assert_array_equal(first, again)
    assert len({picture.tobytes() for picture in first}) > 8  # some draws change nothing


def test_each_step_draws_for_itself():
    transform = build_transforms(True, 32)
    together = []
    for seed in range(300):
        reseed(transform, seed)
        together.append([step.py_random.random() < 0.5 for step in transform.transforms])
    correlations = np.corrcoef(np.array(together, float).T)
    assert np.abs(correlations - np.eye(len(correlations))).max() < 0.25


def test_nothing_is_changed_for_evaluation():
    image, mask = picture()
    same = build_transforms(False, 48)(image=image, mask=mask)
    np.testing.assert_array_equal(same["image"], image)
    np.testing.assert_array_equal(same["mask"], mask)


@pytest.mark.parametrize(("mirror", "expected"), [(True, True), (False, False)])
def test_left_stays_left_unless_mirroring_is_allowed(mirror, expected):
    image, mask = picture()
    transform = build_transforms(True, 48, mirror=mirror)
    sides = set()
    for seed in range(40):
        reseed(transform, seed)
        columns = np.nonzero(transform(image=image, mask=mask)["mask"].any(axis=0))[0]
        if len(columns):
            sides.add("left" if columns.mean() < 24 else "right")
    assert ("right" in sides) is expected


def test_albumentations_has_nothing_to_warn_of():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build_transforms(True, 32)
        build_transforms(True, 32, mirror=False)


def test_importing_calls_nobody():
    """albumentations asks for its newest version unless told not to."""
    code = (
        "import os; os.environ.pop('NO_ALBUMENTATIONS_UPDATE', None)\n"
        "import vlsm_helpers.data.transforms\n"
        "print(requests, os.environ['NO_ALBUMENTATIONS_UPDATE'])\n"
    )
    assert run_without_network(code) == ["[] 1"]
