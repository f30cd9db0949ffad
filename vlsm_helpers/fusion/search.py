"""Weighted means whose weights and threshold are searched on validation: exhaustively for up to three members.

The search computes the mean Dice at every point of the weight simplex (steps of 0.05) and every threshold (0.05 to 0.95).
Values are integers, so that sums are exact. A pixel whose members all lie between the same two thresholds stays there for all
weights, so it is counted once ("settled"). For three members, `simplex` counts whole rows of points at a time.

Example: one image of three pixels, two members with probabilities (0.9, 0.3, 0.2) and (0.8, 0.9, 0.1), of which the first two
pixels are foreground. At the threshold 0.5, the first pixel is above and the third below for all weights: both are settled. The
second is above if 0.3 w + 0.9 (1 - w) > 0.5, that is, if the first member's weight w < 2/3: then Dice = 2 * 2 / (2 + 2) = 1,
otherwise 2 * 1 / (2 + 1) = 2/3. All points with w up to 0.65 are equally good; the search returns the one nearest to equal
weights, (0.5, 0.5).
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from vlsm_helpers.fusion.rule import THRESHOLDS, MemberLogits, Rule
from vlsm_helpers.fusion.simplex import concatenate, counts_above, crossings
from vlsm_helpers.metrics.overlap import dice_from_counts

STEPS = 20  # of the simplex: weights are multiples of 1/20
EXACT = 3  # largest number of members for which every point of the simplex is tried
STARTS = 8  # random starting points of the coordinate search for more members
LEVELS = len(THRESHOLDS) + 1  # between and beyond the thresholds
PROBABILITY_UNIT, LOGIT_UNIT = 1 << 16, 1 << 12  # the integers that represent a probability of 1 and a logit of 1
LARGEST_LOGIT = 16.0  # larger logits are clipped
_CHUNK = 1 << 17  # pixels at a time, which fit the processor's cache

Point = tuple[int, ...]  # weights in units of 1/20, which sum to 20


@dataclass(frozen=True)
class WeightedMean(Rule):
    """A weighted mean of the members' probabilities, or of their logits (`of_logits`), with a threshold.

    `weights` are in the order of the members, `store.names`; they sum to 1.

    >>> import vlsm_helpers as vlsm
    >>> val, test = vlsm.tiny_store("val"), vlsm.tiny_store("test")
    >>> rule = vlsm.WeightedMean(of_logits=True).fit(val.validation(128))
    >>> abs(sum(rule.weights) - 1) < 1e-9, rule.predict(test.logits(128)).shape
    (True, torch.Size([100, 128, 128]))
    """

    of_logits: bool = False
    weights: tuple[float, ...] = ()
    approximate: bool = False  # whether the search was not exhaustive
    kind = "weighted mean"

    @property
    def name(self) -> str:
        """The name of the rule in tables."""
        return f"{self.kind} of {'logits' if self.of_logits else 'probabilities'}"

    def fitted(self, validation: MemberLogits) -> "WeightedMean":
        """Weights and threshold are searched: all points for up to three members, by coordinates from several starts for more."""
        point, number = Searched.of(validation, self.of_logits).best()
        weights = tuple(weight / STEPS for weight in point)
        return replace(self, weights=weights, threshold=THRESHOLDS[number], approximate=len(point) > EXACT)

    def __call__(self, logits: Tensor) -> Tensor:
        """Probabilities (B, S, S). Raises ValueError for another number of members than there are weights."""
        if len(self.weights) != len(logits):
            raise ValueError(f"{len(self.weights)} weights for {len(logits)} members: fit the rule to these members")
        weights = torch.tensor(self.weights, dtype=logits.dtype).view(-1, 1, 1, 1)
        if self.of_logits:
            return torch.sigmoid((weights * logits.clamp(-LARGEST_LOGIT, LARGEST_LOGIT)).sum(0))
        return (weights * torch.sigmoid(logits)).sum(0)


@dataclass(frozen=True)
class Searched:
    """What a search on N images found: Dice, float (P, N, thresholds), of each image at each of the P `points`."""

    points: list[Point]
    dice: Tensor

    @classmethod
    def of(cls, validation: MemberLogits, of_logits: bool) -> "Searched":
        """Search exhaustively for up to three members, by coordinates for more."""
        search = _exhaustive_search if len(validation.logits) <= EXACT else _coordinate_search
        found = search(validation.logits, validation.masks, of_logits)
        return cls(list(found), torch.stack(list(found.values())))

    def best(self, images: Tensor | slice = slice(None)) -> tuple[Point, int]:
        """The point, and the threshold's number, with the best mean Dice on some `images`, an index, of all by default.

        Of equally good ones those nearest to equal weights, then to a threshold of 0.5.
        """
        means = self.dice[:, images].mean(1)
        places, numbers = torch.nonzero(means >= means.max() - 1e-12, as_tuple=True)
        equal = [
            (sum(weight**2 for weight in point), abs(THRESHOLDS[number] - 0.5), point, number)
            for point, number in zip((self.points[place] for place in places), numbers.tolist(), strict=True)
        ]
        return min(equal)[2:]


class Counts:
    """Dice of N images for any weighted mean of M members, at all thresholds at once.

    `logits` (M, N, S, S) and `masks`, bool (N, S, S). `steps`: weights are multiples of 1/steps.
    """

    def __init__(self, logits: Tensor, masks: Tensor, of_logits: bool, steps: int = STEPS):
        values, self._boundaries = _in_integers(logits.flatten(1), of_logits, steps)
        levels = torch.bucketize(steps * values, self._boundaries, out_int32=True)
        bins = (2 * torch.arange(len(masks)).view(-1, 1, 1) + masks).flatten() * LEVELS  # image, and foreground or not
        open_ = (levels != levels[0]).any(0)
        self._count = 2 * len(masks) * LEVELS
        self._settled = torch.bincount((bins + levels[0])[~open_], minlength=self._count)
        self._values, self._first_bin = values[:, open_].contiguous(), bins[open_].int()
        self._true = masks.flatten(1).sum(1).double()

    def dice(self, point: Point) -> Tensor:
        """Dice (N, thresholds) of the weighted mean at `point`."""
        found = self._settled.clone()
        for start in range(0, self._values.shape[1], _CHUNK):
            part = self._values[:, start : start + _CHUNK]
            mean = sum(weight * one for weight, one in zip(point, part, strict=True) if weight)
            level = torch.bucketize(mean, self._boundaries, out_int32=True)
            found += torch.bincount(level.add_(self._first_bin[start : start + _CHUNK]), minlength=self._count)
        above = found.view(-1, 2, LEVELS).flip(-1).cumsum(-1).flip(-1)[..., 1:].double()  # (N, 2, thresholds)
        shared = above[:, 1]
        return dice_from_counts(self._true[:, None], above.sum(1), shared)


def simplex(members: int, steps: int = STEPS) -> Iterator[Point]:
    """All weights of `members` members in units of 1/steps: of 1/20, 21 points of two members, 231 of three."""
    for bars in itertools.combinations(range(steps + members - 1), members - 1):
        edges = (-1, *bars, steps + members - 1)
        yield tuple(after - before - 1 for before, after in itertools.pairwise(edges))


def _in_integers(logits: Tensor, of_logits: bool, steps: int = STEPS) -> tuple[Tensor, Tensor]:
    """The averaged values as int32, of the logits' shape, and the thresholds (T,) on the scale of weights times values."""
    unit = LOGIT_UNIT if of_logits else PROBABILITY_UNIT
    scale = torch.logit(torch.tensor(THRESHOLDS, dtype=torch.float64)) if of_logits else torch.tensor(THRESHOLDS)
    values = logits.clamp(-LARGEST_LOGIT, LARGEST_LOGIT) if of_logits else torch.sigmoid(logits)
    return torch.round(values * unit).int(), torch.round(scale.double() * steps * unit).int()


def _exhaustive_search(logits: Tensor, masks: Tensor, of_logits: bool) -> dict[Point, Tensor]:
    """Dice (N, thresholds) of every point of the simplex."""
    if len(logits) != 3:
        counts = Counts(logits, masks, of_logits)
        return {point: counts.dice(point) for point in simplex(len(logits))}
    truth, parts = masks.flatten(1), []
    some = max(1, _CHUNK // truth.shape[1])
    for start in range(0, len(truth), some):
        part = slice(start, start + some)
        values, boundaries = _in_integers(logits[:, part].flatten(2), of_logits)
        parts.append(crossings(values, truth[part], boundaries, STEPS))
    true, counted = truth.sum(1, keepdim=True), counts_above(concatenate(parts))
    return {point: dice_from_counts(true, above.sum(1), above[:, 1].double()) for point, above in counted}


def _coordinate_search(logits: Tensor, masks: Tensor, of_logits: bool) -> dict[Point, Tensor]:
    """Dice (N, thresholds) of the points visited by moving weight between two members at a time, from several starts."""
    counts, members = Counts(logits, masks, of_logits), len(logits)
    visited: dict[Point, Tensor] = {}

    def best_of(points: list[Point]) -> Point:
        for point in points:
            if point not in visited:
                visited[point] = counts.dice(point)
        return max(points, key=lambda point: visited[point].mean(0).max().item())

    rng = np.random.default_rng(0)
    starts = [tuple(STEPS * (one == other) for other in range(members)) for one in range(members)]
    starts += [tuple(int(n) for n in rng.multinomial(STEPS, np.full(members, 1 / members))) for _ in range(STARTS)]
    for start in starts:
        point = start
        while (better := best_of([point, *_neighbours(point)])) != point:
            point = better
    return visited


def _neighbours(point: Point) -> Iterator[Point]:
    """The points reached by moving 1, 2 or 5 steps of weight from one member to another."""
    for giver, taker in itertools.permutations(range(len(point)), 2):
        for amount in (1, 2, 5):
            if point[giver] >= amount:
                moved = list(point)
                moved[giver] -= amount
                moved[taker] += amount
                yield tuple(moved)
