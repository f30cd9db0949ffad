"""Rules with at most a threshold to fit: the best single member, plain means, entropy-weighted mean, votes, AND, OR."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vlsm_helpers.fusion.rule import MemberLogits, Rule, best_threshold


@dataclass(frozen=True)
class BestSingle(Rule):
    """The member, with its threshold, that is best on validation: the baseline that every fusion must beat."""

    member: int | None = None
    name = "best single member"

    def fitted(self, validation: MemberLogits) -> "BestSingle":
        """The member is chosen by mean Dice, each at its own best threshold."""
        found = [best_threshold(torch.sigmoid(one), validation.masks) for one in validation.logits]
        member = max(range(len(found)), key=lambda number: found[number][1])
        return replace(self, member=member, threshold=found[member][0])

    def __call__(self, logits: Tensor) -> Tensor:
        """That member's probabilities. Raises ValueError before `fit`."""
        if self.member is None:
            raise ValueError("no member is chosen: fit the rule first")
        return torch.sigmoid(logits[self.member])


@dataclass(frozen=True)
class MeanProbability(Rule):
    """The mean of probabilities."""

    name = "mean of probabilities"

    def __call__(self, logits: Tensor) -> Tensor:
        return torch.sigmoid(logits).mean(0)


@dataclass(frozen=True)
class MeanLogit(Rule):
    """The mean of logits: one confident member outweighs two uncertain ones."""

    name = "mean of logits"

    def __call__(self, logits: Tensor) -> Tensor:
        return torch.sigmoid(logits.mean(0))


@dataclass(frozen=True)
class EntropyWeighted(Rule):
    """A mean of probabilities that weights each member, at each pixel, by its confidence: 1 minus its entropy in bits."""

    name = "entropy-weighted mean"

    def __call__(self, logits: Tensor) -> Tensor:
        probabilities = torch.sigmoid(logits)
        confidence = 1 - entropy(logits) + 1e-6  # the plain mean where no member has any confidence
        return (confidence * probabilities).sum(0) / confidence.sum(0)


@dataclass(frozen=True)
class _Fixed(Rule):
    """A rule with nothing to fit."""

    def fitted(self, validation: MemberLogits) -> "Rule":
        return self


@dataclass(frozen=True)
class MajorityVote(_Fixed):
    """Foreground where more than half of the members predict it; a tie is background."""

    name = "majority vote"

    def __call__(self, logits: Tensor) -> Tensor:
        """The fraction of members that predict foreground."""
        return (logits > 0).float().mean(0)


@dataclass(frozen=True)
class And(_Fixed):
    """Foreground where all members predict it: a bound for comparison, not a rule for use."""

    name = "AND"

    def __call__(self, logits: Tensor) -> Tensor:
        """The lowest of the members' probabilities."""
        return torch.sigmoid(logits.amin(0))


@dataclass(frozen=True)
class Or(_Fixed):
    """Foreground where any member predicts it: the other bound."""

    name = "OR"

    def __call__(self, logits: Tensor) -> Tensor:
        """The highest of the members' probabilities."""
        return torch.sigmoid(logits.amax(0))


def entropy(logits: Tensor) -> Tensor:
    """Entropy of each pixel's probability in bits, from 0 (certain) to 1 (chance level); any shape."""
    nats = torch.nn.functional.binary_cross_entropy_with_logits(logits, torch.sigmoid(logits), reduction="none")
    return nats / torch.log(torch.tensor(2.0))
