import pytest
import torch

from tests.helpers import cases
from vlsm_helpers.errors import DataError
from vlsm_helpers.fusion import RULES, MemberLogits
from vlsm_helpers.fusion.rule import best_threshold, check, dice_by_threshold
from vlsm_helpers.metrics.overlap import mask_dice, overlap


def test_dice_of_masks_equals_the_metric():
    marked, masks = torch.rand(9, 8, 8) > 0.7, torch.rand(9, 8, 8) > 0.6
    masks[0] = marked[1] = False
    masks[2] = marked[2] = False  # nothing marked where nothing is: 1
    expected = overlap(marked[:, None].float(), masks[:, None].float())[0]
    torch.testing.assert_close(mask_dice(marked, masks).float(), expected)


def test_the_best_threshold_by_hand():
    masks = torch.tensor([[[True, True], [False, False]]])
    probabilities = torch.tensor([[[0.32, 0.9], [0.22, 0.1]]])
    # How many pixels each threshold marks; the first two of them are the right ones.
    marked = [4] + [3] * 3 + [2] * 2 + [1] * 11 + [0] * 2
    expected = [2 * min(count, 2) / (2 + count) for count in marked]
    assert dice_by_threshold(probabilities, masks)[:, 0].tolist() == expected
    assert best_threshold(probabilities, masks) == (0.3, 1.0)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
class TestEveryRule:
    def test_gives_probabilities_and_a_threshold(self, rule):
        validation = cases()
        fitted = rule.fit(validation)
        fused = fitted(validation.logits)
        assert fused.shape == validation.masks.shape
        assert 0 <= fused.min() <= fused.max() <= 1
        assert 0 < fitted.threshold < 1
        assert mask_dice(fused > fitted.threshold, validation.masks).mean() > 0.2

    def test_leaves_the_unfitted_rule_as_it_was(self, rule):
        before = repr(rule)
        rule.fit(cases())
        assert repr(rule) == before

    def test_fitting_is_deterministic_and_independent_of_the_test_images(self, rule):
        first, again = rule.fit(cases()), rule.fit(cases())
        judged = cases(seed=5)
        fused = first(judged.logits)
        assert torch.equal(fused, again(judged.logits))
        shuffled = judged._replace(masks=judged.masks[torch.randperm(len(judged.masks))])  # labels of test, permuted
        assert torch.equal(rule.fit(cases())(shuffled.logits), fused)
        assert first.threshold == again.threshold

    def test_an_image_does_not_depend_on_the_others(self, rule):
        fitted, judged = rule.fit(cases()), cases(seed=5)
        together = fitted(judged.logits)
        alone = torch.cat([fitted(judged.logits[:, i : i + 1]) for i in range(len(judged.masks))])
        torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)

    def test_works_with_two_members_and_with_five(self, rule):
        for members in (2, 5):
            validation = cases(members, images=4, size=12)
            assert rule.fit(validation)(validation.logits).shape == validation.masks.shape

    def test_a_validation_without_information_is_refused(self, rule):
        logits, masks, names = cases()
        with pytest.raises(DataError, match="split is empty"):
            rule.fit(MemberLogits(logits[:, :0], masks[:0], names))
        with pytest.raises(DataError, match="All masks are empty"):
            rule.fit(MemberLogits(logits, torch.zeros_like(masks), names))
        for broken in (float("nan"), float("inf")):
            spoilt = logits.clone()
            spoilt[1, 2, 3, 3] = broken
            with pytest.raises(DataError, match="NaN or infinite.*\n.*member 1"):
                rule.fit(MemberLogits(spoilt, masks, names))


def test_shapes_that_do_not_fit_are_refused():
    logits, masks, names = cases()
    with pytest.raises(DataError, match="do not fit"):
        check(MemberLogits(logits, masks[:, :8], names))
    with pytest.raises(DataError, match="2 names"):
        check(MemberLogits(logits, masks, names[:2]))
