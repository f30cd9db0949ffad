import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_api

from vlsm_helpers.data.annotations import coco
from vlsm_helpers.errors import DataError

CORNER = np.zeros((8, 8), bool)
CORNER[0:3, 0:4] = True


def document(*annotations, size=(8, 8)):
    images = [
        {"id": 7, "file_name": "day1/a.png", "height": size[0], "width": size[1]},
        {"id": 8, "file_name": "b.png"},
    ]
    return {
        "images": images,
        "categories": [{"id": 1, "name": "polyp"}, {"id": 3, "name": "instrument"}],
        "annotations": [{"id": n, "image_id": 7, "category_id": 1} | one for n, one in enumerate(annotations, 100)],
    }


def read(tmp_path, content):
    path = tmp_path / "coco.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return coco.read(path)


def square(left, top, right, bottom):
    return [left, top, right, top, right, bottom, left, bottom]


def text_of(mask):
    code = coco_api.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(mask.shape), "counts": code["counts"].decode()}


def test_polygons_and_run_lengths_of_two_classes(tmp_path):
    # Pixels 1 to 3 of rows 2 to 4 by a polygon, the corner by both kinds of run lengths: down the columns 3 of each 8.
    numbers = {"size": [8, 8], "counts": [0, 3, 5, 3, 5, 3, 5, 3, 37]}
    found, other = read(
        tmp_path,
        document(
            {"segmentation": [square(1, 2, 4, 5)]},
            {"segmentation": numbers, "category_id": 3},
            {"segmentation": text_of(CORNER), "category_id": 3, "iscrowd": 1},
        ),
    )
    masks = found.masks((8, 8))
    expected = np.zeros((8, 8), bool)
    expected[2:5, 1:4] = True
    assert masks.keys() == {"polyp", "instrument"}
    assert np.array_equal(masks["polyp"], expected)
    assert np.array_equal(masks["instrument"], CORNER)
    assert (found.name, found.size, found.where) == ("day1/a.png", (8, 8), f"{tmp_path / 'coco.json'}: day1/a.png")
    assert (other.name, other.size) == ("b.png", None)
    assert other.masks((5, 9)) == {}  # listed without annotations


def test_regions_of_one_class_are_united(tmp_path):
    two = [square(0, 0, 2, 2), square(6, 6, 8, 8)]
    found, _ = read(tmp_path, document({"segmentation": two}, {"segmentation": [square(1, 1, 3, 3)]}))
    expected = np.zeros((8, 8), bool)
    expected[0:2, 0:2] = expected[6:8, 6:8] = expected[1:3, 1:3] = True
    assert np.array_equal(found.masks((8, 8))["polyp"], expected)


def test_a_polygon_a_little_over_the_border_is_cut_off(tmp_path):
    found, _ = read(tmp_path, document({"segmentation": [square(-0.5, -0.5, 4, 3)]}))
    assert np.array_equal(found.masks((8, 8))["polyp"], CORNER)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 20), min_size=4, max_size=4).filter(lambda s: s[0] != s[2] and s[1] != s[3]))
def test_rectangles_on_whole_pixels_are_exact(tmp_path_factory, sides):
    (left, right), (top, bottom) = sorted(sides[::2]), sorted(sides[1::2])
    content = document({"segmentation": [square(left, top, right, bottom)]}, size=(20, 20))
    found, _ = read(tmp_path_factory.mktemp("coco"), content)
    expected = np.zeros((20, 20), bool)
    expected[top:bottom, left:right] = True
    assert np.array_equal(found.masks((20, 20))["polyp"], expected)


WRONG = {
    "a category that is not listed": {"segmentation": [square(0, 0, 2, 2)], "category_id": 2},
    "an image that is not listed": {"segmentation": [square(0, 0, 2, 2)], "image_id": 9},
    "a box without a segmentation": {"bbox": [0, 0, 2, 2]},
    "an empty segmentation": {"segmentation": []},
    "no category": {"segmentation": [square(0, 0, 2, 2)], "category_id": None},
    "a point": {"segmentation": [[1, 1]]},
    "an odd number of coordinates": {"segmentation": [[1, 1, 2, 2, 3, 3, 4]]},
    "text in a polygon": {"segmentation": [[1, 1, "x", 2, 3, 3]]},
    "a polygon that is not finite": {"segmentation": [[1, 1, 1e400, 2, 3, 3]]},
    "a polygon far outside": {"segmentation": [square(0, 0, 2, 90)]},
    "a code of another size": {"segmentation": {"size": [4, 16], "counts": [0, 64]}},
    "a code of an enormous size": {"segmentation": {"size": [10**9, 10**9], "counts": [10**18]}},
    "a code that is too short": {"segmentation": {"size": [8, 8], "counts": [3, 4]}},
    "a code that is none": {"segmentation": {"size": [8, 8], "counts": None}},
}


@pytest.mark.parametrize("fault", WRONG)
def test_wrong_annotations_are_named(tmp_path, fault):
    content = document({"segmentation": [square(1, 1, 3, 3)]}, WRONG[fault])
    with pytest.raises(DataError) as caught:
        read(tmp_path, content)[0].masks((8, 8))
    assert "coco.json: annotation 101" in str(caught.value.where)
    assert caught.value.hint


PARTS = {"images": [], "annotations": [], "categories": []}
MALFORMED = [
    "",
    "[1, 2",
    "[]",
    "null",
    '{"images": []}',
    "[" * 100_000,
    PARTS | {"images": {}},
    PARTS | {"images": [{"id": 1}]},
    PARTS | {"images": [5]},
    PARTS | {"categories": [{"id": "1"}]},
    PARTS | {"annotations": [3]},
]


@pytest.mark.parametrize("content", MALFORMED)
def test_a_malformed_file_is_named(tmp_path, content):
    with pytest.raises(DataError) as caught:
        read(tmp_path, content)
    assert "coco.json" in str(caught.value.where)
