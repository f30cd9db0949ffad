"""Rules that learn a threshold at most: the best single member, plain means, entropy-weighted mean, votes, AND and OR."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vlsm_helpers.fusion.rule import MemberLogits, Rule, best_threshold, check


@dataclass(frozen=True)
class BestSingle(Rule):
    """The member, and its threshold, that are best on validation: what every fusion must beat."""

    member: int | None = None
    threshold: float = 0.5
    name = "best single member"

    def fit(self, validation: MemberLogits) -> "BestSingle":
        """Choose the member by mean Dice, each at its own best threshold."""
        check(validation)
        found = [best_threshold(torch.sigmoid(one), validation.masks) for one in validation.logits]
        member = max(range(len(found)), key=lambda number: found[number][1])
        return replace(self, member=member, threshold=found[member][0])

    def __call__(self, logits: Tensor) -> Tensor:
        """That member's probabilities. Raises ValueError before `fit`."""
        if self.member is None:
            raise ValueError("which member is best is not known yet: fit the rule first")
        return torch.sigmoid(logits[self.member])


@dataclass(frozen=True)
class _ThresholdOnly(Rule):
    threshold: float = 0.5

    def fit(self, validation: MemberLogits) -> "Rule":
        """Choose the threshold."""
        check(validation)
        return replace(self, threshold=best_threshold(self(validation.logits), validation.masks)[0])


@dataclass(frozen=True)
class MeanProbability(_ThresholdOnly):
    """The mean of probabilities."""

    name = "mean of probabilities"

    def __call__(self, logits: Tensor) -> Tensor:
        """Probabilities (B, S, S)."""
        return torch.sigmoid(logits).mean(0)


@dataclass(frozen=True)
class MeanLogit(_ThresholdOnly):
    """The mean of logits: one sure member outweighs two doubtful ones."""

    name = "mean of logits"

    def __call__(self, logits: Tensor) -> Tensor:
        """Probabilities (B, S, S)."""
        return torch.sigmoid(logits.mean(0))


@dataclass(frozen=True)
class EntropyWeighted(_ThresholdOnly):
    """A mean of probabilities in which a member counts, at each pixel, by how sure it is: 1 minus its entropy in bits."""

    name = "entropy-weighted mean"

    def __call__(self, logits: Tensor) -> Tensor:
        """Probabilities (B, S, S)."""
        probabilities = torch.sigmoid(logits)
        sure = 1 - entropy(logits) + 1e-6  # where nobody is sure at all, the plain mean
        return (sure * probabilities).sum(0) / sure.sum(0)


@dataclass(frozen=True)
class _Fixed(Rule):
    threshold: float = 0.5

    def fit(self, validation: MemberLogits) -> "Rule":
        """Nothing to learn."""
        check(validation)
        return self


@dataclass(frozen=True)
class MajorityVote(_Fixed):
    """What more than half of the members mark; of two that disagree, neither has it."""

    name = "majority vote"

    def __call__(self, logits: Tensor) -> Tensor:
        """The share of members that mark a pixel."""
        return (logits > 0).float().mean(0)


@dataclass(frozen=True)
class And(_Fixed):
    """What all members mark: a bound, no rule to use."""

    name = "AND"

    def __call__(self, logits: Tensor) -> Tensor:
        """The least of the members' probabilities."""
        return torch.sigmoid(logits.amin(0))


@dataclass(frozen=True)
class Or(_Fixed):
    """What any member marks: the other bound."""

    name = "OR"

    def __call__(self, logits: Tensor) -> Tensor:
        """The largest of the members' probabilities."""
        return torch.sigmoid(logits.amax(0))


def entropy(logits: Tensor) -> Tensor:
    """The entropy of each pixel's answer, in bits, 0 (sure) to 1 (a coin); of any shape."""
    nats = torch.nn.functional.binary_cross_entropy_with_logits(logits, torch.sigmoid(logits), reduction="none")
    return nats / torch.log(torch.tensor(2.0))
