"""Worked by hand: what all formats of annotations draw with."""

import numpy as np
import pytest

from vlsm_helpers.data.annotations.regions import AnnotatedImage, Region, entry, in_window, numbers, refuse_outside
from vlsm_helpers.errors import DataError

PATCH = np.array([[1, 1], [1, 0]], bool)


@pytest.mark.parametrize(
    ("left", "top", "expected"),
    [
        (1, 0, [[0, 1, 1], [0, 1, 0]]),
        (-1, 0, [[1, 0, 0], [0, 0, 0]]),
        (2, 1, [[0, 0, 0], [0, 0, 1]]),
        (0, -1, [[1, 0, 0], [0, 0, 0]]),
        (7, 7, [[0, 0, 0], [0, 0, 0]]),
    ],
)
def test_a_patch_is_cut_off_at_the_borders_of_the_image(left, top, expected):
    assert in_window(PATCH, left, top, (2, 3)).astype(int).tolist() == expected


def test_regions_of_a_class_are_united_and_the_size_must_be_the_images():
    other = ~PATCH
    regions = (Region("a", lambda size: PATCH), Region("a", lambda size: other), Region("b", lambda size: other))
    image = AnnotatedImage("x.png", None, "file: x", (2, 2), regions)
    masks = image.masks((2, 2))
    assert masks["a"].all()
    np.testing.assert_array_equal(masks["b"], other)
    with pytest.raises(DataError, match="2 x 2 pixels, the image has 3 x 2") as caught:
        image.masks((2, 3))
    assert caught.value.where == "file: x"


@pytest.mark.parametrize(
    ("point", "refused"), [((-10, 0), False), ((110, 55), False), ((111, 0), True), ((0, -6), True)]
)
def test_points_may_lie_a_tenth_of_a_side_outside(point, refused):
    points = np.array([[50, 25], point], float)
    if refused:
        with pytest.raises(DataError, match="far outside"):
            refuse_outside(points, (50, 100), "here")
    else:
        refuse_outside(points, (50, 100), "here")


def test_numbers_and_entries_of_the_wrong_kind_are_refused():
    assert numbers([[1, 2.5]], "here").tolist() == [1, 2.5]
    for wrong in ("ab", [1, None], [float("nan")], [10**400]):
        with pytest.raises(DataError) as caught:
            numbers(wrong, "here")
        assert caught.value.where == "here"
    assert entry({"id": 3}, "id", int, "here") == 3
    for holder in ({}, {"id": True}, {"id": "3"}, [3]):
        with pytest.raises(DataError, match="'id'"):
            entry(holder, "id", int, "here")
