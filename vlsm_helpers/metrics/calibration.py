"""Whether probabilities mean what they say, and whether doubt points at the images that go wrong."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

BINS = 15


class Reliability(NamedTuple):
    """Pixels in bins of equal width by their probability; arrays (bins,), NaN where a bin is empty."""

    mean_predicted: np.ndarray  # mean probability of the bin's pixels
    fraction_positive: np.ndarray  # fraction of them that are foreground
    share: np.ndarray  # fraction of all pixels that are in the bin
    ece: float  # expected calibration error: mean of |mean_predicted - fraction_positive|, weighted by share
    brier: float  # mean squared difference between probability and ground truth


def reliability(probabilities: Tensor, masks: Tensor, bins: int = BINS) -> Reliability:
    """Calibration of probabilities (N, S, S) in [0, 1] against masks, bool (N, S, S), over all pixels.

    After Naeini et al., AAAI 2015.
    """
    predicted, truth = probabilities.flatten().double().numpy(), masks.flatten().double().numpy()
    bin_of = np.minimum((predicted * bins).astype(int), bins - 1)
    count = np.bincount(bin_of, minlength=bins)
    with np.errstate(invalid="ignore"):
        mean_predicted, fraction_positive = (np.bincount(bin_of, one, bins) / count for one in (predicted, truth))
    share = count / count.sum()
    ece = float(np.nansum(share * np.abs(mean_predicted - fraction_positive)))
    return Reliability(mean_predicted, fraction_positive, share, ece, float(np.mean((predicted - truth) ** 2)))


def disagreement(logits: Tensor) -> np.ndarray:
    """How much members disagree on each image (N,): the mean over pixels of the spread of their probabilities.

    Of logits (M, N, S, S), counted where any member predicts foreground, for empty background is no agreement worth the name;
    0 where none does.
    """
    total, counted = spread(logits)
    return (total / counted.clamp(min=1)).numpy()


def spread(logits: Tensor) -> tuple[Tensor, Tensor]:
    """The sum and the number behind `disagreement`, (N,) each, of logits (M, N, h, w): parts of an image can be added up.

    The spread at a pixel is the standard deviation of the members' probabilities, counted where any is above 0.5.
    """
    probabilities = logits.sigmoid()
    counted = (probabilities.amax(0) > 0.5).flatten(1)
    deviations = (probabilities - probabilities.mean(0)).square_().mean(0).sqrt_()  # `std` takes six times as long
    return (deviations.flatten(1) * counted).sum(1), counted.sum(1)


def binary_entropy(probabilities: Tensor) -> Tensor:
    """Entropy in bits, from 0 (certain) to 1 (chance level), of probabilities of any shape."""
    smallest = torch.finfo(probabilities.dtype).tiny  # p log p is 0 at 0
    others = 1 - probabilities
    return -(probabilities * probabilities.clamp(min=smallest).log2() + others * others.clamp(min=smallest).log2())


def risk_coverage(doubt: np.ndarray, dice: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coverage and risk (N,): the mean of 1 - Dice over the share of images that are kept when the most doubtful are left out."""
    order = np.argsort(doubt, kind="stable")
    kept = np.arange(1, len(order) + 1)
    return kept / len(order), np.cumsum(1 - np.asarray(dice, float)[order]) / kept
