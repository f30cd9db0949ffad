"""The loss of every training: Dice + binary cross-entropy."""

import torch
from torch import Tensor, nn
from torch.nn import functional

SMOOTH = 1e-5  # an empty prediction of an empty mask has Dice 1


class DiceCrossEntropy(nn.Module):
    """Soft Dice loss per image + binary cross-entropy per pixel, means with equal weights, as in the paper's code.

    Takes logits, never probabilities: cross-entropy would squash them a second time. Equal to MONAI's
    `DiceCELoss(sigmoid=True)` to the bit, gradients included (a test compares them), without its import of several seconds.
    """

    def forward(self, logits: Tensor, masks: Tensor) -> Tensor:
        """The loss, a scalar, of logits (B, 1, H, W) and masks of 0 and 1 of the same shape."""
        if logits.shape != masks.shape:
            raise ValueError(f"logits {tuple(logits.shape)} and masks {tuple(masks.shape)} must have one shape")
        probabilities, masks = torch.sigmoid(logits), masks if masks.is_floating_point() else masks.to(logits.dtype)
        shared = (probabilities * masks).sum(dim=(2, 3))
        only_predicted, only_true = (one.sum(dim=(2, 3)) - shared for one in (probabilities, masks))
        size = 2 * (shared + 0.5 * only_predicted + 0.5 * only_true)  # in MONAI's order of addition
        dice = (2 * shared + SMOOTH) / (size + SMOOTH)
        return (1 - dice).mean() + functional.binary_cross_entropy_with_logits(logits, masks)


def segmentation_loss() -> nn.Module:
    """The loss from logits (B, 1, H, W) and masks of 0 and 1."""
    return DiceCrossEntropy()
