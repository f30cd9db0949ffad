import pytest
import torch

from tests.helpers import cases
from vlsm_helpers.fusion import And, BestSingle, EntropyWeighted, MajorityVote, MeanLogit, MeanProbability, Or
from vlsm_helpers.fusion.simple import entropy


def logits_of(*probabilities):
    """Logits (M, 1, 1, 1) of one pixel."""
    return torch.logit(torch.tensor(probabilities, dtype=torch.float64)).view(-1, 1, 1, 1)


def test_means_of_one_pixel_by_hand():
    logits = logits_of(0.9, 0.5)
    assert MeanProbability()(logits).item() == pytest.approx(0.7)
    assert MeanLogit()(logits).item() == pytest.approx(0.75)  # odds 9 and 1: their geometric mean is 3


def test_bounds_and_votes_of_one_pixel_by_hand():
    logits = logits_of(0.9, 0.6, 0.2)
    assert And()(logits).item() == pytest.approx(0.2)
    assert Or()(logits).item() == pytest.approx(0.9)
    assert MajorityVote()(logits).item() == pytest.approx(2 / 3)
    assert MajorityVote()(logits_of(0.9, 0.2)).item() == 0.5  # not above a threshold of 0.5


def test_chance_level_has_an_entropy_of_one_bit():
    assert entropy(logits_of(0.5)).item() == pytest.approx(1)
    assert entropy(logits_of(0.25)).item() == pytest.approx(0.25 * 2 + 0.75 * 0.4150375, abs=1e-6)
    assert entropy(torch.tensor(40.0)).item() == pytest.approx(0, abs=1e-6)


def test_a_member_at_chance_level_has_no_weight():
    assert EntropyWeighted()(logits_of(0.5, 0.9)).item() == pytest.approx(0.9, abs=1e-4)
    assert EntropyWeighted()(logits_of(0.5, 0.5)).item() == pytest.approx(0.5)


def test_the_best_single_member_is_that_of_validation():
    rule = BestSingle().fit(cases())
    assert rule.member == 0
    logits = torch.randn(3, 2, 4, 4)
    assert torch.equal(rule(logits), torch.sigmoid(logits[0]))
    with pytest.raises(ValueError, match="fit the rule first"):
        BestSingle()(logits)
