import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers import cases
from vlsm_helpers.course.shipped import tiny_store
from vlsm_helpers.fusion import BestSingle, MemberLogits, ShrunkMean, WeightedMean
from vlsm_helpers.fusion.search import Counts, Searched
from vlsm_helpers.fusion.shrunk import LEVELS, SEARCHED, SINGLE, candidates, choose
from vlsm_helpers.fusion.weighted import WeightedFusion
from vlsm_helpers.metrics.overlap import mask_dice


def mean_dice(rule, data):
    return mask_dice(rule.predict(data.logits), data.masks).mean().item()


def test_two_members_by_hand():
    """The first member is right and the second wrong at every pixel, by the same logit.

    Every weight above 1/2 for the first one is perfect, so the search takes 11/20, the nearest to equal; shrunk by 3/4 it is
    still above 1/2: 1/4 * 11/20 + 3/4 * 1/2 = 0.5125. Equal weights give a logit of 0 everywhere. Of equally good candidates
    the most shrunk one is used.
    """
    masks = torch.tensor([[[True, False]], [[False, True]], [[True, False]]])
    right = 4 * (2 * masks.float() - 1)
    rule = ShrunkMean(of_logits=True).fit(MemberLogits(torch.stack([right, -right]), masks, ("right", "wrong")))
    assert rule.weights == pytest.approx((0.5125, 0.4875))
    assert (rule.towards_equal_from, rule.shrinkage) == (SEARCHED, 0.75)
    assert torch.equal(rule.predict(torch.stack([right, -right])), masks)


def test_candidates_by_hand():
    """Three members: (0.1, 0.2, 0.7) and the third alone, shrunk by halves; points in units of 1/240."""
    points = [(2, 4, 14), (20, 0, 0), (0, 20, 0), (0, 0, 20)]
    dice = torch.tensor([0.9, 0.5, 0.6, 0.8]).view(4, 1, 1).expand(4, 2, 19)
    found = candidates(Searched(points, dice))
    assert len(found) == 2 * (LEVELS + 1)
    assert found[SEARCHED, 0] == (24, 48, 168)
    assert found[SEARCHED, 2] == (52, 64, 124)  # (0.1 + 1/3) / 2 of 240
    assert found[SINGLE, 0] == (0, 0, 240)
    assert found[SINGLE, 1] == (20, 20, 200)
    assert found[SEARCHED, 4] == found[SINGLE, 4] == (80, 80, 80)


def test_the_best_mean_is_chosen_and_of_equal_ones_the_most_shrunk():
    good, poor = np.array([0.9, 0.5]), np.array([0.6, 0.7])
    assert choose({(SEARCHED, 0): good, (SEARCHED, 4): poor}) == (SEARCHED, 0)
    assert choose({(SEARCHED, 0): good, (SEARCHED, 3): good[::-1], (SINGLE, 1): good}) == (SEARCHED, 3)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 999), members=st.integers(1, 4), images=st.integers(1, 6), of_logits=st.booleans())
def test_weights_lie_on_the_simplex_between_equal_ones_and_a_start(seed, members, images, of_logits):
    data = cases(members, images=images, size=12, seed=seed)
    rule = ShrunkMean(of_logits).fit(data)
    assert sum(rule.weights) == pytest.approx(1)
    assert min(rule.weights) >= rule.shrinkage / members - 1e-9
    if rule.shrinkage < 1:
        start = [(weight - rule.shrinkage / members) / (1 - rule.shrinkage) for weight in rule.weights]
        steps = np.array(start) * 20
        np.testing.assert_allclose(steps, steps.round(), atol=1e-6)  # a point of the search, or a single member
    WeightedFusion(dict(zip(data.names, rule.weights, strict=True)), threshold=rule.threshold)  # can be saved


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 999), members=st.integers(2, 3))
def test_where_images_repeat_themselves_nothing_searched_is_lost(seed, members):
    """Every image ten times: each round has seen the images that it is scored on, as with many images of one kind."""
    data = cases(members, images=3, size=12, seed=seed)
    many = MemberLogits(data.logits.repeat(1, 10, 1, 1), data.masks.repeat(10, 1, 1), data.names)
    shrunk, searched = ShrunkMean(of_logits=True).fit(many), WeightedMean(of_logits=True).fit(many)
    assert mean_dice(shrunk, many) >= mean_dice(searched, many) - 2e-3  # the search rounds logits


def test_a_single_image_gives_equal_weights():
    rule = ShrunkMean(of_logits=True).fit(cases(3, images=1))
    assert rule.weights == pytest.approx((1 / 3,) * 3)


def test_dice_of_finer_weights_is_counted_as_masks_are():
    data = cases(3, images=4, size=16)
    counts = Counts(data.logits, data.masks, True, steps=240)
    rule = ShrunkMean(True, weights=(52 / 240, 64 / 240, 124 / 240), threshold=0.5)
    expected = mask_dice(rule.predict(data.logits), data.masks)
    torch.testing.assert_close(counts.dice((52, 64, 124))[:, 9], expected, atol=2e-2, rtol=0)


def coarse(data):
    """A quarter of the pixels of a side, which is faster."""
    return MemberLogits(data.logits[..., ::4, ::4], data.masks[..., ::4, ::4], data.names)


def test_on_few_images_it_is_not_far_below_the_best_member_and_on_many_it_is_as_good_as_the_search():
    """The shipped members, whose best weights are far from equal."""
    val, test = (coarse(tiny_store(split).validation(128)) for split in ("val", "test"))
    rules = {"shrunk": ShrunkMean(of_logits=True), "searched": WeightedMean(of_logits=True), "single": BestSingle()}
    many = {name: mean_dice(rule.fit(val), test) for name, rule in rules.items()}
    assert many["shrunk"] > many["searched"] - 0.01
    few = {name: [] for name in rules}
    for seed in range(4):
        some = np.random.default_rng(seed).choice(len(val.masks), 12, replace=False)
        part = MemberLogits(val.logits[:, some], val.masks[some], val.names)
        for name, rule in rules.items():
            few[name].append(mean_dice(rule.fit(part), test))
    assert np.mean(few["shrunk"]) > np.mean(few["single"]) - 0.01
