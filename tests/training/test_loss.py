import numpy as np
import pytest
import torch

from vlsm_helpers.training.loop import segmentation_loss


def test_the_loss_reads_logits():
    """Trap of the benchmark: probabilities handed to a loss that takes logits leave 0.50 on a perfect prediction."""
    mask = torch.zeros(1, 1, 4, 4)
    mask[..., 1:3, 1:3] = 1
    logits = 40 * (2 * mask - 1)
    loss = segmentation_loss()
    assert loss(logits, mask).item() == pytest.approx(0, abs=1e-4)
    assert loss(torch.sigmoid(logits), mask).item() > 0.5


def test_both_terms_of_the_loss_count():
    """By hand, all logits 0 on a 4x4 mask with 4 foreground pixels: CE ln 2, Dice loss 1 - 2*2 / (8+4)."""
    mask = torch.zeros(1, 1, 4, 4)
    mask[..., 1:3, 1:3] = 1
    assert segmentation_loss()(torch.zeros(1, 1, 4, 4), mask).item() == pytest.approx(np.log(2) + 1 - 4 / 12, abs=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_loss_and_its_gradient_are_monais_to_the_bit(dtype):
    """So that runs of earlier versions, which used MONAI's, have the numbers of this one."""
    from monai.losses import DiceCELoss  # takes seconds: not in the child processes that import this module

    generator, results = torch.Generator().manual_seed(0), []
    logits = (5 * torch.randn(4, 1, 33, 20, generator=generator)).to(dtype)
    masks = (torch.rand(4, 1, 33, 20, generator=generator) > 0.7).float()
    masks[0] = 0
    for loss in (segmentation_loss(), DiceCELoss(sigmoid=True, lambda_dice=1.0, lambda_ce=1.0)):
        given = logits.clone().requires_grad_()
        value = loss(given, masks)
        value.backward()
        results.append((value.detach(), given.grad))
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*results, strict=True))


def test_the_loss_refuses_masks_of_another_size():
    with pytest.raises(ValueError, match="size"):
        segmentation_loss()(torch.zeros(2, 1, 4, 4), torch.zeros(2, 1, 4, 5))
