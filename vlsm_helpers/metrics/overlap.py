"""Dice, IoU, HD95 and NSD of a prediction, through MONAI, and what an empty mask scores."""

import math
import warnings

import numpy as np
import torch
from torch import Tensor

# MONAI 1.6 passes itself an argument that it has deprecated.
warnings.filterwarnings("ignore", message=".*always_return_as_numpy", category=FutureWarning)

NSD_TOLERANCE = 0.01  # of the image's diagonal, so that the same rule fits images of every size


def overlap(predictions: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Dice and IoU, each (B,) in [0, 1], of binary predictions and masks (B, 1, H, W).

    Empty against empty counts 1, any foreground against empty 0 (MONAI's default would be NaN).
    """
    from monai.metrics import compute_dice, compute_iou  # half of a command's start, if it were imported above

    dice = compute_dice(predictions, masks, ignore_empty=False)
    iou = compute_iou(predictions, masks, ignore_empty=False)
    return dice.squeeze(1), iou.squeeze(1)


def dice_from_counts(foreground: Tensor, predicted: Tensor, shared: Tensor) -> Tensor:
    """Dice in [0, 1] from counts of pixels: foreground, predicted, and both; tensors that broadcast to one shape.

    The rule of `overlap`: empty against empty counts 1. For many thresholds or weights of one image, where counting once is
    cheaper than one call of MONAI for each.
    """
    total = foreground + predicted
    return torch.where(total > 0, 2 * shared / total.clamp(min=1), 1.0)


def mask_dice(predictions: Tensor, masks: Tensor) -> Tensor:
    """Dice (N,) in [0, 1] of predicted and true masks, bool (N, S, S); two empty masks count 1.

    >>> import torch
    >>> import vlsm_helpers as vlsm
    >>> vlsm.mask_dice(torch.tensor([[[True, True]]]), torch.tensor([[[True, False]]])).item()
    0.6666666666666666
    """
    counts = (part.flatten(1).sum(1).double() for part in (masks, predictions, predictions & masks))
    return dice_from_counts(*counts)


def score(prediction: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    """Dice, IoU, HD95 and NSD of a predicted mask against the true one, both bool (H, W), best at the original size.

    `hd95` is in pixels, `hd95_relative` in diagonals of the image, `nsd` (surface Dice at a tolerance of 1 % of the
    diagonal) in [0, 1]. Where one of the two is empty (a missed lesion, a false alarm), NSD is 0, as MONAI's
    `compute_surface_dice` has it, and HD95 NaN: a distance to nothing is undefined. Where both are empty, all three are NaN.
    Raises ValueError when the two sizes differ.
    """
    if prediction.shape != mask.shape or mask.ndim != 2:
        raise ValueError(f"prediction {prediction.shape} and mask {mask.shape} must be two images of one size")
    pair = [torch.from_numpy(np.asarray(array, bool))[None, None] for array in (prediction, mask)]
    dice, iou = (float(value) for value in overlap(*pair))
    diagonal = math.hypot(*mask.shape)
    hd95 = nsd = float("nan")
    if prediction.any() != mask.any():
        nsd = 0.0
    elif mask.any():
        from monai.metrics import compute_hausdorff_distance, compute_surface_dice

        hd95 = float(compute_hausdorff_distance(*pair, include_background=True, percentile=95))
        nsd = float(compute_surface_dice(*pair, class_thresholds=[NSD_TOLERANCE * diagonal], include_background=True))
    return {"dice": dice, "iou": iou, "hd95": hd95, "hd95_relative": hd95 / diagonal, "nsd": nsd}
