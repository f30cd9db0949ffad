"""What decides whether fusing can work, before any rule is tried: how good the members are where the others fail."""

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
    image_oracle: float  # of a rule that knows which member is best on each image
    pixel_oracle: float  # of one that is right wherever any member is
    correlations: dict[tuple[str, str], float]  # of the members' Dice over images; 1: they fail on the same images
    won: dict[str, float]  # the share of images on which a member is the best one; ties are shared


def complementarity(validation: MemberLogits, threshold: float = 0.5) -> Complementarity:
    """The potential of members whose probabilities are cut at `threshold`. Raises DataError as fitting a rule does."""
    check(validation)
    marked = torch.sigmoid(validation.logits) > threshold
    dice = torch.stack([mask_dice(one, validation.masks) for one in marked])
    return from_scores(dice, pixel_oracle(marked, validation.masks), validation.names)


def pixel_oracle(marked: Tensor, masks: Tensor) -> Tensor:
    """Dice (N,) of a rule that is right wherever any of the members' masks, bool (M, N, H, W), is as `masks`, bool (N, H, W)."""
    right = (marked == masks).any(0)
    return mask_dice(torch.where(right, masks, ~masks), masks)


def from_scores(dice: Tensor, right_anywhere: Tensor, names: Sequence[str]) -> Complementarity:
    """The potential of members with Dice (M, N) on images of which the pixel oracle has Dice (N,) `right_anywhere`."""
    best = dice == dice.amax(0)
    pairs = itertools.combinations(range(len(names)), 2)
    return Complementarity(
        dict(zip(names, dice.mean(1).tolist(), strict=True)),
        dice.amax(0).mean().item(),
        right_anywhere.mean().item(),
        {(names[first], names[second]): _correlation(dice[first], dice[second]) for first, second in pairs},
        dict(zip(names, (best / best.sum(0)).mean(1).tolist(), strict=True)),
    )


def _correlation(first: Tensor, second: Tensor) -> float:
    if first.std() == 0 or second.std() == 0:
        return float("nan")  # a member that is always as good correlates with nothing
    return float(np.corrcoef(first.numpy(), second.numpy())[0, 1])
