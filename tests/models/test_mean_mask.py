import numpy as np
import torch

from vlsm_helpers.models.mean_mask import MeanMask

LEFT = np.array([[1, 1, 0, 0]] * 4, np.uint8)
WIDE = np.array([[1, 1, 1, 0]] * 4, np.uint8)


def test_it_predicts_what_most_masks_share_whatever_the_image():
    model = MeanMask(np.stack([LEFT, LEFT, WIDE]))
    logits = model(torch.rand(5, 3, 4, 4), "polyp")
    assert logits.shape == (5, 1, 4, 4)
    for one in logits:
        np.testing.assert_array_equal(one[0] > 0, LEFT)


def test_the_threshold_is_the_one_with_the_best_dice_not_one_half():
    """Each of four masks holds one half of its own: no pixel is foreground in more than a quarter of them."""
    masks = np.zeros((4, 4, 4), np.uint8)
    for row in range(4):
        masks[row, row] = 1
    assert (MeanMask(masks)(torch.rand(1, 3, 4, 4)) > 0).all()


def test_it_predicts_at_any_size():
    assert MeanMask(LEFT[None])(torch.rand(2, 3, 9, 7)).shape == (2, 1, 9, 7)
