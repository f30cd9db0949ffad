"""The interface of fusion rules: from the logits of M members to one probability map, fitted on validation."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from vlsm_helpers.errors import DataError
from vlsm_helpers.evaluation.predictions import MemberLogits
from vlsm_helpers.metrics.overlap import mask_dice

THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(1, 20))


@dataclass(frozen=True, kw_only=True)
class Rule(ABC):
    """`fit(validation)` gives a fitted rule, and the rule maps logits (M, B, S, S) to probabilities (B, S, S) in [0, 1].

    A probability above `threshold` is foreground; `fit` chooses it, and it is 0.5 before. A rule does not depend on which images
    it was fitted on, so it can be applied to any. A subclass is a frozen dataclass that defines `name`, `__call__`, and, where it
    has more to fit than a threshold, `fitted`.
    """

    name: ClassVar[str]  # label in tables
    threshold: float = 0.5

    def fit(self, validation: MemberLogits) -> Self:
        """The fitted rule. Raises DataError for a validation that it cannot be fitted on (see `check`)."""
        check(validation)
        return self.fitted(validation)

    def fitted(self, validation: MemberLogits) -> Self:
        """`fit`, for a validation that is checked; by default only the threshold is chosen."""
        return self.with_threshold(validation)

    def with_threshold(self, validation: MemberLogits) -> Self:
        """The rule with the threshold that has the best mean Dice on validation."""
        return replace(self, threshold=best_threshold(self(validation.logits), validation.masks)[0])

    @abstractmethod
    def __call__(self, logits: Tensor) -> Tensor:
        """Probabilities (B, S, S) from logits (M, B, S, S)."""

    def predict(self, logits: Tensor) -> Tensor:
        """Masks, bool (B, S, S), from logits (M, B, S, S): foreground where the probability is above `threshold`."""
        return self(logits) > self.threshold


def check(validation: MemberLogits) -> None:
    """Raise DataError unless there are members and images, finite logits, and foreground in at least one mask."""
    logits, masks, names = validation
    if logits.ndim != 4 or masks.shape != logits.shape[1:] or len(names) != len(logits):
        raise DataError(f"Logits {tuple(logits.shape)}, masks {tuple(masks.shape)} and {len(names)} names do not fit.")
    if not len(masks):
        raise DataError("The validation split is empty.", hint="fit on a split with images.")
    for name, one in zip(names, logits, strict=True):
        if not torch.isfinite(one).all():
            raise DataError("A logit is NaN or infinite.", where=name, hint="predict again with that member.")
    if not masks.any():
        raise DataError("All masks are empty: nothing can be learned from them.", hint="fit on images with a lesion.")


def dice_by_threshold(probabilities: Tensor, masks: Tensor) -> Tensor:
    """Dice (len(THRESHOLDS), N) of probabilities (N, S, S) against masks bool (N, S, S)."""
    return torch.stack([mask_dice(probabilities > threshold, masks) for threshold in THRESHOLDS])


def best_threshold(probabilities: Tensor, masks: Tensor) -> tuple[float, float]:
    """The threshold with the best mean Dice, and that Dice; of equally good ones the nearest to 0.5."""
    means = dice_by_threshold(probabilities, masks).mean(1)
    return THRESHOLDS[best_number(means)], means.max().item()


def best_number(means: Tensor) -> int:
    """The number of the threshold with the best of these mean Dice (thresholds,); of equally good ones the nearest to 0.5."""
    equal = torch.nonzero(means >= means.max() - 1e-12).flatten().tolist()
    return min(equal, key=lambda number: abs(THRESHOLDS[number] - 0.5))
