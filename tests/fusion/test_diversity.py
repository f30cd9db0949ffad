import math

import pytest
import torch

from tests.helpers import cases
from vlsm_helpers.fusion import MemberLogits
from vlsm_helpers.fusion.diversity import complementarity


def test_by_hand_on_two_images():
    """The first member predicts the left column, the second the right one; the ground truth is left, then right."""
    left = torch.tensor([[True, False], [True, False]])
    masks = torch.stack([left, ~left])
    confident = 10 * (2 * left.float() - 1)
    logits = torch.stack([torch.stack([confident, confident]), torch.stack([-confident, -confident])])
    found = complementarity(MemberLogits(logits, masks, ("left", "right")))
    assert found.members == {"left": 0.5, "right": 0.5}
    assert found.image_oracle == found.pixel_oracle == 1
    assert found.best_on == {"left": 0.5, "right": 0.5}
    assert found.correlations[("left", "right")] == pytest.approx(-1)


def test_equal_members_gain_nothing_and_share_the_images():
    logits, masks, _ = cases(1)
    found = complementarity(MemberLogits(torch.cat([logits, logits]), masks, ("one", "twin")))
    assert found.image_oracle == found.members["one"] == pytest.approx(found.pixel_oracle)
    assert found.best_on == {"one": 0.5, "twin": 0.5}
    assert found.correlations[("one", "twin")] == pytest.approx(1)


def test_oracles_are_in_order_and_a_constant_correlates_with_nothing():
    logits, masks, names = cases(3)
    found = complementarity(MemberLogits(logits, masks, names))
    assert max(found.members.values()) <= found.image_oracle <= found.pixel_oracle <= 1
    perfect = 10 * (2 * masks.float() - 1)
    found = complementarity(MemberLogits(torch.stack([logits[0], perfect]), masks, ("noisy", "perfect")))
    assert math.isnan(found.correlations[("noisy", "perfect")])
