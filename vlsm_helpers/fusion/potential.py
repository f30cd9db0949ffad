"""What decides whether fusing can work, before any rule is tried: how good the members are where the others fail."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vlsm_helpers.fusion.rule import Validation, check, mask_dice


class Potential(NamedTuple):
    """Means over images, Dice in [0, 1]."""

    members: dict[str, float]  # mean Dice of each
    image_oracle: float  # of a rule that knows which member is best on each image
    pixel_oracle: float  # of one that is right wherever any member is
    correlations: dict[tuple[str, str], float]  # of the members' Dice over images; 1: they fail on the same images
    won: dict[str, float]  # the share of images on which a member is the best one; ties are shared


def potential(validation: Validation, threshold: float = 0.5) -> Potential:
    """The potential of members whose probabilities are cut at `threshold`. Raises DataError as fitting a rule does."""
    check(validation)
    marked = torch.sigmoid(validation.logits) > threshold
    dice = torch.stack([mask_dice(one, validation.masks) for one in marked])  # (M, N)
    best = dice == dice.amax(0)
    right = (marked == validation.masks).any(0)
    names = validation.names
    pairs = [(first, second) for first in range(len(names)) for second in range(first + 1, len(names))]
    return Potential(
        dict(zip(names, dice.mean(1).tolist(), strict=True)),
        dice.amax(0).mean().item(),
        mask_dice(torch.where(right, validation.masks, ~validation.masks), validation.masks).mean().item(),
        {(names[first], names[second]): _correlation(dice[first], dice[second]) for first, second in pairs},
        dict(zip(names, (best / best.sum(0)).mean(1).tolist(), strict=True)),
    )


def _correlation(first: Tensor, second: Tensor) -> float:
    if first.std() == 0 or second.std() == 0:
        return float("nan")  # a member that is always as good correlates with nothing
    return float(np.corrcoef(first.numpy(), second.numpy())[0, 1])
