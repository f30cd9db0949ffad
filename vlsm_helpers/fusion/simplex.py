"""Pixel counts for every weighted mean of three members, in time that grows with the rows of the weight simplex, not its points.

Along a row of the simplex, weight moves from the last member to the second, and a pixel's mean changes by equal steps: it
crosses a threshold at most once, at a point that a division gives. A threshold with all three members on one side is never
crossed.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor


class Crossings(NamedTuple):
    """Where the pixels of N images, background and foreground separately, cross T thresholds; int32."""

    # (N, 2, T + 1): pixels by the number of thresholds that they exceed for all weights
    settled: Tensor
    # (steps + 1, N, 2, T, 2, steps + 2): pixels by row, threshold, rising or falling, first point beyond
    crossed: Tensor


def crossings(values: Tensor, truth: Tensor, thresholds: Tensor, steps: int) -> Crossings:
    """Where in the simplex the pixels of N images cross each threshold.

    `values`: int32 (3, N, P); `truth`: bool (N, P); `thresholds`: int32 (T,), ascending, on the scale of sums of values times
    weights, which sum to `steps`.
    """
    images, count, slots = len(truth), len(thresholds), steps + 2
    values = steps * values.flatten(1)
    levels = torch.bucketize(values, thresholds, out_int32=True)
    lowest, highest = levels.amin(0), levels.amax(0)
    kind = (2 * torch.arange(images, dtype=torch.int32).unsqueeze(1) + truth).flatten()  # image, and foreground or not
    settled = torch.bincount(kind * (count + 1) + lowest, minlength=images * 2 * (count + 1))
    between = highest - lowest
    pixel = torch.repeat_interleave(between.long())  # once for each threshold between its members
    cut = (lowest - between.cumsum(0, dtype=torch.int32) + between).take(pixel)
    cut += torch.arange(len(pixel), dtype=torch.int32)
    threshold = thresholds.take(cut.long())
    # A mean is above the threshold where the weighted sum of these differences is above 0.
    first, second, third = (one.take(pixel) - threshold for one in values)
    slope = (second - third).double()
    bins = ((kind.take(pixel) * count + cut) * 2 + (slope < 0)).double() * slots
    # Sums are integers: half a unit away from 0 there are no ties, and a slope of 1/64 instead of 0 moves none across. So a
    # position differs from a whole number by at least 0.5 / slope, a million times the rounding error of the subtractions.
    slope[slope == 0] = 1 / 64
    position, change = (0.5 - steps * third.double()) / slope, (first - third) / slope
    rows = []
    for row in range(steps + 1):
        point = position.ceil().clamp_(0, steps - row + 1).add_(bins)
        rows.append(torch.bincount(point.int(), minlength=images * 2 * count * 2 * slots).int())
        position -= change
    crossed = torch.stack(rows).view(steps + 1, images, 2, count, 2, slots)
    return Crossings(settled.view(images, 2, count + 1).int(), crossed)


def concatenate(parts: list[Crossings]) -> Crossings:
    """The crossings of all images from those of batches of images."""
    return Crossings(torch.cat([part.settled for part in parts]), torch.cat([part.crossed for part in parts], dim=1))


def counts_above(crossings: Crossings) -> Iterator[tuple[tuple[int, int, int], Tensor]]:
    """Each point of the simplex, with the number of pixels that its weights put above each threshold: (N, 2, T)."""
    settled = crossings.settled.flip(-1).cumsum(-1).flip(-1)[..., 1:]
    steps = len(crossings.crossed) - 1
    for first, row in enumerate(crossings.crossed):
        rising, falling = row.unbind(-2)
        crossed = rising.cumsum(-1) + falling.sum(-1, keepdim=True) - falling.cumsum(-1)
        for second in range(steps - first + 1):
            yield (first, second, steps - first - second), settled + crossed[..., second]
