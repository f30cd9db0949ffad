"""A weighted mean whose weights are shrunk towards equal ones as far as cross-validation on the validation images says.

Weights that are searched on a dozen images fit these images: on new ones equal weights, or the best member alone, may be
better. So the candidates are the searched weights w, and the weights of the best single member (1 for it, 0 for the others),
each shrunk by a share s = 0, 1/4, 1/2, 3/4 or 1 towards equal weights:

    (1 - s) w + s (1/M, ..., 1/M).

In ten rounds each candidate, its threshold included, is found on nine tenths of the validation images and scored on the last
tenth. The candidate with the best mean Dice is then found once more on all images. With many images the rounds tell the
candidates apart, and nothing is shrunk that should not be. (Weights of combined forecasts are shrunk towards equal ones
likewise: Diebold and Shin, International Journal of Forecasting, 2019.)
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
from torch import Tensor

from vlsm_helpers.fusion.rule import THRESHOLDS, MemberLogits, best_number
from vlsm_helpers.fusion.search import EXACT, STEPS, Counts, Point, Searched, WeightedMean

LEVELS = 4  # shrinkage in steps of a quarter
FOLDS = 10
SEARCHED, SINGLE = "searched weights", "best single member"

Candidate = tuple[str, int]  # what is shrunk, and by how many quarters


@dataclass(frozen=True)
class ShrunkMean(WeightedMean):
    """A weighted mean of the members' probabilities, or of their logits (`of_logits`), with shrunk weights and a threshold.

    `shrinkage`: the share of equal weights, from 0 to 1; `towards_equal_from`: what was shrunk.

    >>> import vlsm_helpers as vlsm
    >>> val, test = vlsm.tiny_store("val"), vlsm.tiny_store("test")
    >>> rule = vlsm.ShrunkMean(of_logits=True).fit(val.validation(128))
    >>> abs(sum(rule.weights) - 1) < 1e-9, 0 <= rule.shrinkage <= 1
    (True, True)
    """

    shrinkage: float = 0.0
    towards_equal_from: str = SEARCHED
    kind = "shrunk mean"

    def fitted(self, validation: MemberLogits) -> "ShrunkMean":
        """Cross-validation chooses what to shrink and how far; then weights and threshold are found on all images."""
        members, images = validation.logits.shape[:2]
        steps = STEPS * LEVELS * members
        search = Searched.of(validation, self.of_logits)
        counts = Counts(validation.logits, validation.masks, self.of_logits, steps)
        dice = cache(counts.dice)  # rounds share most of their candidates
        chosen = choose(_out_of_fold(search, dice, images)) if images > 1 else (SEARCHED, LEVELS)
        point = candidates(search)[chosen]
        threshold = THRESHOLDS[best_number(dice(point).mean(0))]
        weights = tuple(weight / steps for weight in point)
        shrunk = {"towards_equal_from": chosen[0], "shrinkage": chosen[1] / LEVELS}
        return replace(self, weights=weights, threshold=threshold, approximate=members > EXACT, **shrunk)


def candidates(search: Searched, images: Tensor | slice = slice(None)) -> dict[Candidate, Point]:
    """The candidates that some `images` of a search give, an index; points in units of 1 / (20 * LEVELS * members)."""
    corners = [place for place, point in enumerate(search.points) if max(point) == STEPS]
    alone = Searched([search.points[place] for place in corners], search.dice[corners])
    ends = {SEARCHED: search.best(images)[0], SINGLE: alone.best(images)[0]}
    return {(start, level): _shrink(point, level) for start, point in ends.items() for level in range(LEVELS + 1)}


def choose(scores: Mapping[Candidate, np.ndarray]) -> Candidate:
    """The candidate with the best mean Dice (N,) on images that it was not found on; of equally good ones the most shrunk."""
    return max(scores, key=lambda one: (round(scores[one].mean(), 12), one[1]))


def _shrink(point: Point, level: int) -> Point:
    return tuple((LEVELS - level) * len(point) * weight + level * STEPS for weight in point)


def _out_of_fold(search: Searched, dice: Callable[[Point], Tensor], images: int) -> dict[Candidate, np.ndarray]:
    """Dice (images,) of each candidate on images of the fold that it was not found on.

    Folds are runs of consecutive images: files of one patient usually follow each other.
    """
    found: dict[Candidate, list[Tensor]] = {}
    for fold in np.array_split(np.arange(images), min(images, FOLDS)):
        others = torch.from_numpy(np.setdiff1d(np.arange(images), fold))
        for candidate, point in candidates(search, others).items():
            of_images = dice(point)
            number = best_number(of_images[others].mean(0))
            found.setdefault(candidate, []).append(of_images[torch.from_numpy(fold), number])
    return {candidate: torch.cat(parts).numpy() for candidate, parts in found.items()}
