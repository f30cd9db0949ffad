"""Dice, IoU, HD95 and NSD of a prediction, and what an empty mask scores.

A test compares all four with MONAI's, which is not used here since its import takes longer than PyTorch's (5 to 7 CPU seconds
on a weak laptop, in each kernel and command) and its surface metrics take ten times as long per image.
"""

import math

import numpy as np
import torch
from scipy.ndimage import binary_erosion
from scipy.spatial import KDTree
from torch import Tensor

NSD_TOLERANCE = 0.01  # of the image's diagonal, so that the same rule fits images of every size


def overlap(predictions: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Dice and IoU, each float32 (B,) in [0, 1], of binary predictions and masks (B, 1, H, W).

    Empty against empty counts 1, any foreground against empty 0.
    """
    parts = (masks, predictions, predictions * masks)
    foreground, predicted, shared = (part.flatten(1).sum(1, dtype=torch.float32) for part in parts)
    union = foreground + predicted - shared
    iou = torch.where(union > 0, shared / union.clamp(min=1), 1.0)
    return dice_from_counts(foreground, predicted, shared), iou


def dice_from_counts(foreground: Tensor, predicted: Tensor, shared: Tensor) -> Tensor:
    """Dice in [0, 1] from counts of pixels: foreground, predicted, and both; tensors that broadcast to one shape.

    Empty against empty counts 1. For many thresholds or weights of one image, count once.
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
    diagonal) in [0, 1]: definitions and handling of empty masks of MONAI's `compute_hausdorff_distance` and
    `compute_surface_dice`. Where one of the two is empty (a missed lesion, a false alarm), NSD is 0 and HD95 NaN: a distance to
    nothing is undefined. Where both are empty, all three are NaN.
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
        distances = edge_distances(prediction, mask)
        hd95 = max(float(torch.quantile(torch.from_numpy(one), 0.95)) for one in distances)
        nsd = float((np.concatenate(distances) <= NSD_TOLERANCE * diagonal).mean())
    return {"dice": dice, "iou": iou, "hd95": hd95, "hd95_relative": hd95 / diagonal, "nsd": nsd}


def edge_distances(prediction: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distances in pixels, float32, from each edge pixel of `prediction` to the nearest of `mask`, and the other way round.

    Both are bool (H, W) and not empty. An edge pixel is a foreground pixel with a background pixel, or the image's border,
    above, below, left or right of it.
    """
    edges = [np.argwhere(one & ~binary_erosion(one)) for one in (np.asarray(prediction, bool), np.asarray(mask, bool))]
    one, other = (KDTree(there).query(here)[0].astype(np.float32) for here, there in (edges, edges[::-1]))
    return one, other
