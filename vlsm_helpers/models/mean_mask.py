"""The baseline that every member must beat: the mean of the training masks, as the prediction for all images."""

import numpy as np
import torch
from torch import Tensor

from vlsm_helpers.metrics.overlap import dice_from_counts
from vlsm_helpers.models.segmenter import Features, ImageOnlySegmenter, resize

EPSILON = 1e-4  # probabilities are kept this far from 0 and 1, so that their logits are finite


class MeanMask(ImageOnlySegmenter):
    """Predicts the mean of the masks, uint8 (N, S, S), that it was made from, whatever the image.

    Its logits are shifted so that the usual threshold of 0.5 is the one with the best Dice on those masks.
    """

    def __init__(self, masks: np.ndarray):
        super().__init__()
        self.config = {"name": "mean_mask"}
        mean = torch.from_numpy(np.asarray(masks, np.float32).mean(axis=0)).clamp(EPSILON, 1 - EPSILON)
        logits = torch.logit(mean) - torch.logit(torch.tensor(_best_threshold(mean.numpy(), masks)))
        self.logits = torch.nn.Parameter(logits, requires_grad=False)

    def decode(self, features: Features, text: Tensor, images: Tensor, size: tuple[int, int]) -> Tensor:
        """The same logits (B, 1, *size) for every image."""
        return resize(self.logits, size).expand(len(images), 1, -1, -1)


def _best_threshold(mean: np.ndarray, masks: np.ndarray) -> float:
    """The threshold, in [0.05, 0.95], at which the mean mask has the best mean Dice on `masks`."""
    flat = torch.from_numpy(np.asarray(masks, np.float32).reshape(len(masks), -1))
    cuts = np.arange(0.05, 0.951, 0.05)
    guesses = torch.from_numpy((mean.reshape(1, -1) > cuts[:, None]).astype(np.float32))
    dice = dice_from_counts(flat.sum(1), guesses.sum(1, keepdim=True), guesses @ flat.T)
    return float(cuts[dice.mean(dim=1).argmax()])
