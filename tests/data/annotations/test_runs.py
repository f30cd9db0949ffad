import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from pycocotools import mask as coco_api

from tests import archives
from vlsm_helpers.data.annotations.runs import decode_rle, fill
from vlsm_helpers.errors import DataError

MASKS = npst.arrays(bool, st.tuples(st.integers(1, 60), st.integers(1, 60)))


def test_run_lengths_by_hand():
    # 2 background, 3 foreground, 1 background, down the columns of 2 x 3 pixels.
    expected = [[False, True, True], [False, True, False]]
    assert decode_rle({"size": [2, 3], "counts": "231"}).tolist() == expected
    assert decode_rle({"size": [2, 3], "counts": [2, 3, 1]}).tolist() == expected


def test_run_lengths_that_are_differences_and_negative():
    # Runs 1 1 1 6 1 2: from the fourth on the difference to two before, so 1 1 1 5 0 -4 (-4 = 0b11100 = 28, chr(76)).
    mask = decode_rle({"size": [12, 1], "counts": "11150L"})
    assert mask[:, 0].astype(int).tolist() == [0, 1, 0, 1, 1, 1, 1, 1, 1, 0, 1, 1]


@pytest.mark.parametrize(("size", "counts"), [([2320, 2828], "PVWX6"), ([2022, 2021], "nefl3")])
def test_empty_masks_of_the_published_sample(size, counts):
    mask = decode_rle({"size": size, "counts": counts})
    assert mask.shape == tuple(size)
    assert not mask.any()


@settings(deadline=None)  # a busy machine may pause
@given(MASKS)
def test_run_lengths_there_and_back(mask):
    assert np.array_equal(decode_rle(archives.encode_rle(mask)), mask)


@settings(deadline=None)
@given(MASKS)
def test_it_decodes_what_cocos_own_api_encodes(mask):
    code = coco_api.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert np.array_equal(decode_rle({"size": code["size"], "counts": code["counts"].decode()}), mask)


@pytest.mark.parametrize("counts", ["", "230", "23", "2L1", [], [2, 3], [2, 5, -1], [7]])
def test_run_lengths_that_do_not_fill_the_size(counts):
    with pytest.raises(DataError, match="2 x 3") as caught:
        decode_rle({"size": [2, 3], "counts": counts}, where="gt_segmentations_val.json: patient1, Edema")
    assert caught.value.where == "gt_segmentations_val.json: patient1, Edema"


NO_CODES = [
    {},
    [],
    {"size": [2, 3]},
    {"size": [2], "counts": "231"},
    {"size": 5, "counts": [6]},
    {"size": [2, 3], "counts": "ä"},
    {"size": [2, 3], "counts": [10**30]},
    {"size": [2, 3], "counts": ["a"]},
]


@pytest.mark.parametrize("code", NO_CODES)
def test_what_is_no_run_length_code(code):
    with pytest.raises(DataError) as caught:
        decode_rle(code, where="here")
    assert caught.value.where == "here"


def test_runs_along_the_rows():
    assert fill([1, 2, 3], (2, 3)).tolist() == [[False, True, True], [False, False, False]]
