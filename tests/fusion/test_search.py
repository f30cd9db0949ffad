import itertools
import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import weight_search
from tests.helpers import cases
from vlsm_helpers.fusion import MemberLogits, WeightedMean
from vlsm_helpers.fusion.rule import THRESHOLDS
from vlsm_helpers.fusion.search import STEPS, Counts, _exhaustive_search, simplex
from vlsm_helpers.metrics.overlap import mask_dice


def test_the_simplex_has_all_its_points():
    assert list(simplex(2)) == [(weight, STEPS - weight) for weight in range(STEPS + 1)]
    for members in (1, 3, 4):
        points = list(simplex(members))
        assert len(set(points)) == len(points) == math.comb(STEPS + members - 1, members - 1)
        assert all(sum(point) == STEPS and min(point) >= 0 for point in points)


def brute_force(validation, of_logits):
    """Mean Dice (thresholds,) of every point, from whole images in double precision."""
    values = (validation.logits if of_logits else torch.sigmoid(validation.logits)).double()
    # What the search holds in integers is rounded to these steps.
    unit = 2.0**12 if of_logits else 2.0**16
    values = torch.round(values.clamp(-16, 16) * unit) / unit
    found = {}
    for point in simplex(len(values)):
        mean = sum(weight * one for weight, one in zip(point, values, strict=True)) / STEPS
        cuts = [torch.logit(torch.tensor(t, dtype=torch.float64)).item() if of_logits else t for t in THRESHOLDS]
        cuts = [round(cut * STEPS * unit) / (STEPS * unit) for cut in cuts]
        found[point] = torch.stack([mask_dice(mean > cut + 1e-12, validation.masks).mean() for cut in cuts])
    return found


@pytest.mark.parametrize("of_logits", [False, True], ids=["probabilities", "logits"])
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 1000), members=st.integers(1, 3))
def test_counting_equals_brute_force_at_every_point_and_threshold(of_logits, seed, members):
    validation = cases(members, images=3, size=12, seed=seed)
    counts = Counts(validation.logits, validation.masks, of_logits)
    everywhere = _exhaustive_search(validation.logits, validation.masks, of_logits)
    for point, expected in brute_force(validation, of_logits).items():
        torch.testing.assert_close(counts.dice(point).mean(0), expected, atol=1e-9, rtol=0)
        torch.testing.assert_close(everywhere[point].mean(0), expected, atol=1e-9, rtol=0)


@pytest.mark.parametrize("of_logits", [False, True], ids=["probabilities", "logits"])
def test_three_members_that_often_agree_are_counted_as_they_are_point_by_point(of_logits):
    """Whole logits, so that many pixels lie on a threshold or have two members alike; images are taken some at a time."""
    logits, masks, _ = cases(3, images=9, size=140)
    logits = logits.round()
    logits[1, :4] = logits[2, :4]
    logits[0, 6] = -20
    masks[8] = False
    counts = Counts(logits, masks, of_logits)
    everywhere = _exhaustive_search(logits, masks, of_logits)
    assert set(everywhere) == set(simplex(3))
    for point, dice in everywhere.items():
        torch.testing.assert_close(dice, counts.dice(point), atol=1e-12, rtol=0)


@pytest.mark.parametrize("of_logits", [False, True], ids=["probabilities", "logits"])
def test_the_fitted_rule_has_the_dice_that_was_counted(of_logits):
    validation = cases(images=12)
    rule = WeightedMean(of_logits).fit(validation)
    got = mask_dice(rule.predict(validation.logits), validation.masks).mean().item()
    best = max(dice.max().item() for dice in brute_force(validation, of_logits).values())
    assert got == pytest.approx(best, abs=2e-3)
    assert sum(rule.weights) == pytest.approx(1)
    assert not rule.approximate


def test_a_perfect_member_gets_all_the_weight():
    masks = torch.rand(4, 8, 8) > 0.5
    perfect, noise = 20 * (2 * masks.float() - 1), 30 * torch.randn(4, 8, 8)
    rule = WeightedMean().fit(MemberLogits(torch.stack([noise, perfect]), masks, ("noise", "perfect")))
    assert rule.weights[1] > 0.5
    assert torch.equal(rule.predict(torch.stack([noise, perfect])), masks)


def test_equal_members_get_equal_weights():
    logits, masks, names = cases(1)
    rule = WeightedMean().fit(MemberLogits(torch.cat([logits, logits]), masks, (*names, "twin")))
    assert rule.weights == (0.5, 0.5)


def test_four_members_are_searched_by_coordinates_and_called_approximate():
    validation = cases(4, images=4, size=10)
    rule = WeightedMean().fit(validation)
    assert rule.approximate
    best = max(dice.max().item() for dice in brute_force(validation, False).values())
    got = Counts(validation.logits, validation.masks, False).dice(tuple(round(20 * w) for w in rule.weights))
    assert got.mean(0).max().item() > best - 0.01


def test_weights_of_other_members_are_refused():
    with pytest.raises(ValueError, match="3 weights for 2 members"):
        WeightedMean().fit(cases())(torch.randn(2, 1, 4, 4))


def test_the_benchmark_measures_synthetic_and_shipped_members(capsys, monkeypatch):
    monkeypatch.setattr(weight_search.torch, "set_num_threads", lambda number: None)
    weight_search.main(["--images", "4", "--size", "88", "--rounds", "1"])
    found = json.loads(capsys.readouterr().out)
    assert (found["images"], found["size"]) == (4, 88)
    assert len(found["found"]) == 4
    for one in found["found"]:
        assert 0 < one["fastest"] <= one["median"] <= one["slowest"]
        assert sum(one["weights"]) == pytest.approx(1)


def test_synthetic_members_differ_in_how_good_they_are_and_fail_together():
    logits, masks, _ = weight_search.correlated_members(6, 88)
    dice = torch.stack([mask_dice(one > 0, masks) for one in logits])
    assert 0.4 < dice.mean(1).min() < dice.mean(1).max() < 0.99
    outside = [one[~masks] for one in logits]
    assert torch.corrcoef(torch.stack(outside)).min() > 0.2


def test_names_tell_the_scale():
    assert [rule.name for rule in (WeightedMean(), WeightedMean(True))] == [
        "weighted mean of probabilities",
        "weighted mean of logits",
    ]
    assert len(list(itertools.islice(simplex(5), 3))) == 3


def test_the_worked_example_of_three_pixels():
    logits = torch.logit(torch.tensor([[0.9, 0.3, 0.2], [0.8, 0.9, 0.1]])).view(2, 1, 1, 3)
    masks = torch.tensor([True, True, False]).view(1, 1, 3)
    counts = Counts(logits, masks, of_logits=False)
    at_half = {point: counts.dice(point)[0, THRESHOLDS.index(0.5)].item() for point in simplex(2)}
    expected = {(w, 20 - w): 1.0 if w / 20 < 2 / 3 else pytest.approx(2 / 3) for w in range(21)}
    assert at_half == expected
    rule = WeightedMean().fit(MemberLogits(logits, masks, ("first", "second")))
    assert (rule.weights, rule.threshold) == ((0.5, 0.5), 0.5)
