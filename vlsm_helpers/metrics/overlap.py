"""The ruler: Dice, IoU, HD95 and NSD of one prediction, through MONAI, and what an empty mask counts."""

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


def score(prediction: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    """Dice, IoU, HD95 and NSD of a predicted mask against the true one, both bool (H, W), best at the original size.

    `hd95` is in pixels, `hd95_relative` in diagonals of the image, `nsd` (surface Dice at a tolerance of 1 % of the
    diagonal) in [0, 1]. The three are NaN where prediction or mask is empty: a distance to nothing is undefined. Raises
    ValueError when the two sizes differ.
    """
    if prediction.shape != mask.shape or mask.ndim != 2:
        raise ValueError(f"prediction {prediction.shape} and mask {mask.shape} must be two images of one size")
    pair = [torch.from_numpy(np.asarray(array, bool))[None, None] for array in (prediction, mask)]
    dice, iou = (float(value) for value in overlap(*pair))
    diagonal = math.hypot(*mask.shape)
    hd95 = nsd = float("nan")
    if prediction.any() and mask.any():
        from monai.metrics import compute_hausdorff_distance, compute_surface_dice

        hd95 = float(compute_hausdorff_distance(*pair, include_background=True, percentile=95))
        nsd = float(compute_surface_dice(*pair, class_thresholds=[NSD_TOLERANCE * diagonal], include_background=True))
    return {"dice": dice, "iou": iou, "hd95": hd95, "hd95_relative": hd95 / diagonal, "nsd": nsd}
