import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import expit

from tests.helpers import cases
from vlsm_helpers.fusion import MemberLogits, PixelGate, Stacking, TemperatureMean
from vlsm_helpers.fusion.learned import temperature
from vlsm_helpers.metrics.overlap import mask_dice


def test_the_temperature_of_overconfident_logits_is_what_they_were_multiplied_by():
    generator = torch.Generator().manual_seed(0)
    honest = 2 * torch.randn(200_000, generator=generator)
    truth = (torch.rand(200_000, generator=generator) < torch.sigmoid(honest)).float()
    assert temperature(honest, truth) == pytest.approx(1, abs=0.03)
    assert temperature(5 * honest, truth) == pytest.approx(5, abs=0.15)


def test_each_member_has_its_own_temperature():
    logits, masks, names = cases(2)
    hotter = MemberLogits(torch.stack([logits[0], 7 * logits[0]]), masks, names)
    first, second = TemperatureMean().fit(hotter).temperatures
    assert second == pytest.approx(7 * first, rel=0.02)


def test_stacking_is_logistic_regression():
    validation = cases(images=4)
    rule = Stacking().fit(validation)
    inputs, truth = validation.logits.flatten(1).T.numpy().astype(float), validation.masks.flatten().numpy()

    def cost(parameters):
        z = inputs @ parameters[:-1] + parameters[-1]
        loss = np.logaddexp(0, z) - truth * z
        return loss.mean() + 1e-4 * (parameters[:-1] ** 2).sum()

    expected = minimize(cost, np.zeros(4), method="BFGS").x
    np.testing.assert_allclose([*rule.weights, rule.bias], expected, atol=2e-3)
    pixel = torch.tensor([0.5, -1.0, 2.0]).view(3, 1, 1, 1)
    assert rule(pixel).item() == pytest.approx(expit(pixel.flatten().numpy() @ expected[:-1] + expected[-1]), abs=1e-3)


def test_stacking_reports_its_cross_validated_dice():
    validation = cases(images=10)
    rule = Stacking().fit(validation)
    fused = rule(validation.logits)
    assert rule.folds_dice == pytest.approx(mask_dice(fused > rule.threshold, validation.masks).mean().item(), abs=0.05)
    one = MemberLogits(validation.logits[:, :1], validation.masks[:1], validation.names)
    assert np.isnan(Stacking().fit(one).folds_dice)  # one image leaves nothing to fit on


def test_the_gate_learns_which_member_is_right_where():
    """The first member is right on the left half, the second on the right half; each outputs noise on the other."""
    generator = torch.Generator().manual_seed(0)
    masks = torch.zeros(24, 16, 16, dtype=torch.bool)
    masks[:, 4:12, 2:14] = True
    truth = 3 * (2 * masks.float() - 1)
    noise = torch.randn(2, 24, 16, 16, generator=generator)
    left = torch.arange(16) < 8
    logits = torch.stack([torch.where(left, truth, 0.3 * noise[0]), torch.where(left, 0.3 * noise[1], truth)])
    rule = PixelGate().fit(MemberLogits(logits, masks, ("left", "right")))
    gated = mask_dice(rule(logits) > rule.threshold, masks).mean()
    assert gated > 0.97
    assert rule(logits).sub(masks.float()).abs().mean() < torch.sigmoid(logits).mean(0).sub(masks.float()).abs().mean()
    with pytest.raises(ValueError, match="fit the rule"):
        PixelGate()(logits)


def test_training_a_gate_leaves_the_global_random_state():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    PixelGate().fit(cases())
    assert torch.equal(torch.rand(1), expected)
