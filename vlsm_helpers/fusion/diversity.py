"""Complementarity of members: how good each is where the others fail, which bounds what any fusion can gain."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vlsm_helpers.fusion.rule import MemberLogits, check
from vlsm_helpers.metrics.overlap import mask_dice


class Complementarity(NamedTuple):
    """Means over images, Dice in [0, 1]."""

    members: dict[str, float]  # mean Dice of each
    image_oracle: float  # of a rule that chooses the best member for each image
    pixel_oracle: float  # of a rule that is right wherever any member is
    correlations: dict[tuple[str, str], float]  # of Dice over images, by pair; 1: both fail on the same images
    best_on: dict[str, float]  # fraction of images on which a member is the best; ties are shared


def complementarity(validation: MemberLogits) -> Complementarity:
    """The complementarity of members whose probabilities above 0.5 are foreground. Raises DataError as fitting a rule does."""
    check(validation)
    predicted = torch.sigmoid(validation.logits) > 0.5
    dice = torch.stack([mask_dice(one, validation.masks) for one in predicted])
    return from_scores(dice, pixel_oracle(predicted, validation.masks), validation.names)


def pixel_oracle(predicted: Tensor, masks: Tensor) -> Tensor:
    """Dice (N,) of a rule that is right wherever any member is: predictions `predicted`, bool (M, N, H, W), masks (N, H, W)."""
    right = (predicted == masks).any(0)
    return mask_dice(torch.where(right, masks, ~masks), masks)


def from_scores(dice: Tensor, pixel_dice: Tensor, names: Sequence[str]) -> Complementarity:
    """The complementarity of members with Dice (M, N) on images where the pixel oracle has Dice `pixel_dice` (N,)."""
    best = dice == dice.amax(0)
    pairs = itertools.combinations(range(len(names)), 2)
    return Complementarity(
        dict(zip(names, dice.mean(1).tolist(), strict=True)),
        dice.amax(0).mean().item(),
        pixel_dice.mean().item(),
        {(names[first], names[second]): _correlation(dice[first], dice[second]) for first, second in pairs},
        dict(zip(names, (best / best.sum(0)).mean(1).tolist(), strict=True)),
    )


def _correlation(first: Tensor, second: Tensor) -> float:
    if first.std() == 0 or second.std() == 0:
        return float("nan")  # undefined for a member whose Dice is constant
    return float(np.corrcoef(first.numpy(), second.numpy())[0, 1])
