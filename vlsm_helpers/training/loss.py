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
        """The loss, a scalar, of logits and masks of 0 and 1, both (B, 1, H, W). Raises ValueError for two shapes."""
        masks = masks if masks.is_floating_point() else masks.to(logits.dtype)
        cross_entropy = functional.binary_cross_entropy_with_logits(logits, masks)
        probabilities = torch.sigmoid(logits)
        shared = (probabilities * masks).sum(dim=(2, 3))
        false_positive, false_negative = (one.sum(dim=(2, 3)) - shared for one in (probabilities, masks))
        size = 2 * (shared + 0.5 * false_positive + 0.5 * false_negative)  # in MONAI's order of addition
        return (1 - (2 * shared + SMOOTH) / (size + SMOOTH)).mean() + cross_entropy


segmentation_loss = DiceCrossEntropy
