"""The floor that every member must beat: one guess for all images, the mean of the training masks."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from vlsm_helpers.metrics.overlap import dice_from_counts
from vlsm_helpers.models.segmenter import Features, Segmenter, empty_text

EPSILON = 1e-4  # probabilities are kept this far from 0 and 1, so that their logits are finite


class MeanMask(Segmenter):
    """Predicts, whatever it is shown, the mean of the masks uint8 (N, S, S) it was made from.

    It is cut where Dice on those masks is best, so that the usual threshold of 0.5 serves it, too.
    """

    def __init__(self, masks: np.ndarray):
        super().__init__()
        self.config = {"name": "mean_mask"}
        mean = torch.from_numpy(np.asarray(masks, np.float32).mean(axis=0)).clamp(EPSILON, 1 - EPSILON)
        logits = torch.logit(mean) - torch.logit(torch.tensor(_best_cut(mean.numpy(), masks)))
        self.logits = torch.nn.Parameter(logits, requires_grad=False)

    def encode_images(self, images: Tensor) -> Features:
        """Nothing: it does not look."""
        return ()

    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        """Embeddings (B, 0): it does not read."""
        return empty_text(prompts, self)

    def decode(self, features: Features, text: Tensor, images: Tensor, size: tuple[int, int]) -> Tensor:
        """The same logits (B, 1, *size) for every image."""
        one = functional.interpolate(self.logits[None, None], size=tuple(size), mode="bilinear", align_corners=False)
        return one.expand(len(images), -1, -1, -1)


def _best_cut(mean: np.ndarray, masks: np.ndarray) -> float:
    """The threshold, in [0.05, 0.95], at which the mean mask has the best mean Dice on `masks`."""
    flat = torch.from_numpy(np.asarray(masks, np.float32).reshape(len(masks), -1))
    cuts = np.arange(0.05, 0.951, 0.05)
    guesses = torch.from_numpy((mean.reshape(1, -1) > cuts[:, None]).astype(np.float32))
    dice = dice_from_counts(flat.sum(1), guesses.sum(1, keepdim=True), guesses @ flat.T)
    return float(cuts[dice.mean(dim=1).argmax()])
