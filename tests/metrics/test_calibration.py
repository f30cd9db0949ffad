import numpy as np
import pytest
import torch

from vlsm_helpers.metrics.calibration import disagreement, reliability, risk_coverage


def test_by_hand():
    probabilities = torch.tensor([[[0.9, 0.9], [0.1, 0.6]]])
    masks = torch.tensor([[[True, False], [False, True]]])
    found = reliability(probabilities, masks, bins=2)
    np.testing.assert_allclose(found.mean_predicted, [0.1, 0.8])
    np.testing.assert_allclose(found.fraction_positive, [0, 2 / 3])
    np.testing.assert_allclose(found.share, [0.25, 0.75])
    assert found.ece == pytest.approx(0.25 * 0.1 + 0.75 * (0.8 - 2 / 3))
    assert found.brier == pytest.approx((0.01 + 0.81 + 0.01 + 0.16) / 4)


def test_honest_probabilities_have_no_error_and_sharper_ones_do():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(20, 64, 64, generator=generator)
    masks = torch.rand(20, 64, 64, generator=generator) < torch.sigmoid(logits)
    honest, sharper = reliability(torch.sigmoid(logits), masks), reliability(torch.sigmoid(4 * logits), masks)
    assert honest.ece < 0.01 < sharper.ece
    assert honest.brier < sharper.brier
    assert np.isnan(honest.mean_predicted[-1]) == (honest.share[-1] == 0)


def test_members_that_agree_do_not_disagree():
    logits = torch.randn(1, 3, 8, 8).repeat(2, 1, 1, 1)
    assert disagreement(logits).tolist() == [0, 0, 0]
    assert disagreement(torch.full((2, 1, 4, 4), -9.0)).tolist() == [0]
    opposite = torch.stack([torch.full((1, 4, 4), 50.0), torch.full((1, 4, 4), -50.0)])
    assert disagreement(opposite).tolist() == [0.5]


def test_risk_falls_when_the_doubtful_are_left_out_and_doubt_is_right():
    coverage, risk = risk_coverage(np.array([0.1, 0.3, 0.2]), np.array([1.0, 0.4, 0.7]))
    np.testing.assert_allclose(coverage, [1 / 3, 2 / 3, 1])
    np.testing.assert_allclose(risk, [0, 0.15, 0.3])
