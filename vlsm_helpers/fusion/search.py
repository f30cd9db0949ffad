"""Weighted means, their weights and threshold searched on validation: exactly for up to three members.

The mean Dice of every point of the simplex (steps of 0.05) at every threshold (0.05 to 0.95) is counted, not sampled. Values
are held as integers, so that sums are exact. A pixel that all members put between the same two thresholds stays there
whatever the weights are, so it is counted once: most of an image is such.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from vlsm_helpers.fusion.rule import THRESHOLDS, Rule, Validation, check, dice_of

STEPS = 20  # of the simplex: weights are multiples of 1/20
EXACT = 3  # members up to which every point of the simplex is tried
STARTS = 8  # of the coordinate search among more members
LEVELS = len(THRESHOLDS) + 1  # between and beyond the thresholds
_FIXED_POINT = {False: 1 << 16, True: 1 << 12}  # the integer that stands for a probability, for a logit of 1
LARGEST_LOGIT = 16.0  # sure enough: beyond, a logit counts as this much
_CHUNK = 1 << 17  # pixels at a time, so that they stay in the processor's cache

Point = tuple[int, ...]  # weights in units of 1/20, which sum to 20


@dataclass(frozen=True)
class WeightedMean(Rule):
    """A weighted mean of the members' probabilities, or of their logits (`of_logits`), cut at a threshold."""

    of_logits: bool = False
    weights: tuple[float, ...] = ()
    threshold: float = 0.5
    approximate: bool = False  # whether the search may have missed the best weights

    @property
    def name(self) -> str:
        """In tables."""
        return f"weighted mean of {'logits' if self.of_logits else 'probabilities'}"

    def fit(self, validation: Validation) -> "WeightedMean":
        """Search weights and threshold: everywhere for up to three members, by coordinates from several starts for more."""
        check(validation)
        counts = Counts(validation.logits, validation.masks, self.of_logits)
        approximate = len(validation.logits) > EXACT
        point, number = (_by_coordinates if approximate else _everywhere)(counts, len(validation.logits))
        weights = tuple(weight / STEPS for weight in point)
        return replace(self, weights=weights, threshold=THRESHOLDS[number], approximate=approximate)

    def __call__(self, logits: Tensor) -> Tensor:
        """Probabilities (B, S, S). Raises ValueError for another number of members than there are weights."""
        if len(self.weights) != len(logits):
            raise ValueError(f"{len(self.weights)} weights for {len(logits)} members: fit the rule to these members")
        weights = torch.tensor(self.weights, dtype=logits.dtype).view(-1, 1, 1, 1)
        if self.of_logits:
            return torch.sigmoid((weights * logits.clamp(-LARGEST_LOGIT, LARGEST_LOGIT)).sum(0))
        return (weights * torch.sigmoid(logits)).sum(0)


class Counts:
    """Mean Dice on N images of any weighted mean of M members, at all thresholds at once.

    `logits` (M, N, S, S) and `masks`, bool (N, S, S).
    """

    def __init__(self, logits: Tensor, masks: Tensor, of_logits: bool):
        unit = _FIXED_POINT[of_logits]
        scale = torch.logit(torch.tensor(THRESHOLDS, dtype=torch.float64)) if of_logits else torch.tensor(THRESHOLDS)
        self._boundaries = torch.round(scale.double() * STEPS * unit).int()
        values = logits.clamp(-LARGEST_LOGIT, LARGEST_LOGIT) if of_logits else torch.sigmoid(logits)
        values = torch.round(values * unit).int().flatten(1)
        levels = torch.bucketize(STEPS * values, self._boundaries, out_int32=True)
        place = (2 * torch.arange(len(masks)).view(-1, 1, 1) + masks).flatten() * LEVELS  # image, and foreground or not
        open_ = (levels != levels[0]).any(0)
        self._bins = 2 * len(masks) * LEVELS
        self._settled = torch.bincount((place + levels[0])[~open_], minlength=self._bins)
        self._values, self._place = values[:, open_].contiguous(), place[open_].int()
        self._true = masks.flatten(1).sum(1).double()

    def dice(self, point: Point) -> Tensor:
        """Mean Dice (thresholds,) of the weighted mean at `point`."""
        found = self._settled.clone()
        for start in range(0, self._values.shape[1], _CHUNK):
            part = self._values[:, start : start + _CHUNK]
            mean = sum(weight * one for weight, one in zip(point, part, strict=True) if weight)
            level = torch.bucketize(mean, self._boundaries, out_int32=True)
            found += torch.bincount(level.add_(self._place[start : start + _CHUNK]), minlength=self._bins)
        above = found.view(-1, 2, LEVELS).flip(-1).cumsum(-1).flip(-1)[..., 1:].double()  # (N, 2, thresholds)
        shared = above[:, 1]
        return dice_of(self._true[:, None], above.sum(1), shared).mean(0)


def simplex(members: int, steps: int = STEPS) -> Iterator[Point]:
    """All weights of `members` members in units of 1/steps: of 1/20, 21 points of two members, 231 of three."""
    for bars in itertools.combinations(range(steps + members - 1), members - 1):
        edges = (-1, *bars, steps + members - 1)
        yield tuple(after - before - 1 for before, after in itertools.pairwise(edges))


def _everywhere(counts: Counts, members: int) -> tuple[Point, int]:
    """The best point, and the number of its best threshold."""
    return _best({point: counts.dice(point) for point in simplex(members)})


def _by_coordinates(counts: Counts, members: int) -> tuple[Point, int]:
    """The best point found by moving weight between two members at a time, from the corners, the middle and random starts."""
    known: dict[Point, Tensor] = {}

    def best_of(points: list[Point]) -> Point:
        for point in points:
            if point not in known:
                known[point] = counts.dice(point)
        return max(points, key=lambda point: known[point].max().item())

    rng = np.random.default_rng(0)
    starts = [tuple(STEPS * (one == other) for other in range(members)) for one in range(members)]
    starts += [tuple(int(n) for n in rng.multinomial(STEPS, np.full(members, 1 / members))) for _ in range(STARTS)]
    for start in starts:
        here = start
        while True:
            around = [here, *_neighbours(here)]
            there = best_of(around)
            if there == here:
                break
            here = there
    return _best(known)


def _neighbours(point: Point) -> Iterator[Point]:
    """The points to which 1, 2 or 5 steps of weight move from one member to another."""
    for giver, taker in itertools.permutations(range(len(point)), 2):
        for amount in (1, 2, 5):
            if point[giver] >= amount:
                moved = list(point)
                moved[giver] -= amount
                moved[taker] += amount
                yield tuple(moved)


def _best(found: dict[Point, Tensor]) -> tuple[Point, int]:
    """Of all points and thresholds the best; of equals the one nearest to equal weights and to a threshold of 0.5."""
    best = max(dice.max().item() for dice in found.values())
    equal = [
        (sum(weight**2 for weight in point), abs(THRESHOLDS[number] - 0.5), point, number)
        for point, dice in found.items()
        for number in torch.nonzero(dice >= best - 1e-12).flatten().tolist()
    ]
    return min(equal)[2:]
