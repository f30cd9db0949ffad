import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis.extra.numpy import array_shapes, arrays

from vlsm_helpers.metrics.overlap import NSD_TOLERANCE, mask_dice, overlap, score

MASKS = arrays(bool, (8, 8))
ANY_SIZE = array_shapes(min_dims=2, max_dims=2, max_side=40).flatmap(lambda shape: arrays(bool, (2, *shape)))

TRUTH = np.array([[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]], bool)
SHIFTED = np.array([[0, 0, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 0, 0]], bool)
EMPTY = np.zeros((4, 4), bool)


def test_by_hand():
    """2 pixels shared, 4 and 4 marked: Dice 2*2 / (4+4), IoU 2 / (4+4-2); the square is one pixel off."""
    result = score(SHIFTED, TRUTH)
    assert result["dice"] == pytest.approx(0.5)
    assert result["iou"] == pytest.approx(1 / 3)
    assert result["hd95"] == pytest.approx(1)
    assert result["hd95_relative"] == pytest.approx(1 / math.sqrt(32))
    assert result["nsd"] == pytest.approx(0.5)  # 4 of the 8 edge pixels lie on the other's edge


def test_a_perfect_prediction():
    assert score(TRUTH, TRUTH) == {"dice": 1, "iou": 1, "hd95": 0, "hd95_relative": 0, "nsd": 1}


@pytest.mark.parametrize(("prediction", "truth", "expected"), [(EMPTY, EMPTY, 1), (TRUTH, EMPTY, 0), (EMPTY, TRUTH, 0)])
def test_empty_masks(prediction, truth, expected):
    result = score(prediction, truth)
    assert result["dice"] == result["iou"] == expected
    assert all(math.isnan(result[name]) for name in ("hd95", "hd95_relative"))
    assert math.isnan(result["nsd"]) if expected else result["nsd"] == 0, (
        "a miss is a miss, nothing at all is undefined"
    )


@settings(max_examples=60, deadline=None)
@given(ANY_SIZE)
def test_scores_are_monais_empty_masks_included(both):
    from monai import metrics as monai  # takes seconds: not while tests are collected

    prediction, truth = both
    pair = [torch.from_numpy(one)[None, None] for one in (prediction, truth)]
    tolerance = [NSD_TOLERANCE * math.hypot(*truth.shape)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MONAI warns of empty masks
        theirs = {
            "dice": monai.compute_dice(*pair, ignore_empty=False),
            "iou": monai.compute_iou(*pair, ignore_empty=False),
            "hd95": monai.compute_hausdorff_distance(*pair, include_background=True, percentile=95),
            "nsd": monai.compute_surface_dice(*pair, class_thresholds=tolerance, include_background=True),
        }
    ours = score(prediction, truth)
    for name in theirs if prediction.any() and truth.any() else ("dice", "iou", "nsd"):
        assert ours[name] == pytest.approx(float(theirs[name]), nan_ok=True), name


def test_sizes_must_agree():
    with pytest.raises(ValueError, match="one size"):
        score(TRUTH, TRUTH[:3])


@settings(max_examples=40, deadline=None)
@given(MASKS, MASKS)
def test_properties(prediction, truth):
    result, mirrored = score(prediction, truth), score(truth, prediction)
    assert 0 <= result["iou"] <= result["dice"] <= 1
    assert result["dice"] == pytest.approx(2 * result["iou"] / (1 + result["iou"]))
    assert result["dice"] == pytest.approx(mirrored["dice"])
    assert math.isnan(result["hd95"]) == (not (prediction.any() and truth.any()))


@settings(max_examples=25, deadline=None)
@given(MASKS, MASKS)
def test_it_agrees_with_counting(prediction, truth):
    both = prediction.sum() + truth.sum()
    expected = 1.0 if both == 0 else 2 * (prediction & truth).sum() / both
    one, other = torch.from_numpy(prediction)[None], torch.from_numpy(truth)[None]
    dice, _ = overlap(one[None], other[None])
    assert dice.item() == pytest.approx(expected)
    assert mask_dice(one, other).item() == pytest.approx(expected)


def test_a_batch_and_a_single_image_score_alike():
    """Two rulers were used in the published table: here the batch of training and the report of an image agree."""
    predictions = torch.from_numpy(np.stack([SHIFTED, EMPTY, TRUTH]))[:, None]
    masks = torch.from_numpy(np.stack([TRUTH, EMPTY, EMPTY]))[:, None]
    dice, iou = overlap(predictions, masks)
    assert dice.tolist() == pytest.approx([0.5, 1, 0])
    assert iou.tolist() == pytest.approx([1 / 3, 1, 0])
