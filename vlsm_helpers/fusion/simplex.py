"""Counts for every weighted mean of three members, in time that grows with the rows of the triangle of weights, not its points.

In a row of the triangle, weight moves from the last member to the second, and a pixel's mean moves by equal steps: it crosses a
threshold once at most, where a division says. A threshold that has all three members on one side is never crossed.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor


class Crossings(NamedTuple):
    """Of N images, background and foreground apart, how many pixels cross which of T thresholds where; int32."""

    anyway: Tensor  # (N, 2, T + 1): pixels by how many thresholds they are above, whatever the weights
    places: Tensor  # (steps + 1, N, 2, T, 2, steps + 2): pixels by row, threshold, rising or falling, and first point beyond


def crossings(values: Tensor, truth: Tensor, thresholds: Tensor, steps: int) -> Crossings:
    """Where in the triangle the pixels of N images cross.

    `values`: int32 (3, N, P); `truth`: bool (N, P); `thresholds`: int32 (T,), ascending, on the scale of sums of values times
    weights, which sum to `steps`.
    """
    images, cuts, slots = len(truth), len(thresholds), steps + 2
    values = steps * values.flatten(1)
    levels = torch.bucketize(values, thresholds, out_int32=True)
    lowest, highest = levels.amin(0), levels.amax(0)
    kind = (2 * torch.arange(images, dtype=torch.int32).unsqueeze(1) + truth).flatten()  # image, and foreground or not
    anyway = torch.bincount(kind * (cuts + 1) + lowest, minlength=images * 2 * (cuts + 1))
    between = highest - lowest
    pixel = torch.repeat_interleave(between.long())  # once for each threshold between its members
    cut = (lowest - between.cumsum(0, dtype=torch.int32) + between).take(pixel)
    cut += torch.arange(len(pixel), dtype=torch.int32)
    threshold = thresholds.take(cut.long())
    first, second, third = (one.take(pixel) - threshold for one in values)  # above where their weighted sum is above 0
    slope = (second - third).double()
    bins = ((kind.take(pixel) * cuts + cut) * 2 + (slope < 0)).double() * slots
    # Sums are integers: half a unit off 0 none is a tie, and a slope of 1/64 in place of 0 moves none across. So a place is off a
    # whole number by 0.5 / slope at least, a million times what the subtractions below round away.
    slope[slope == 0] = 1 / 64
    place, change = (0.5 - steps * third.double()) / slope, (first - third) / slope
    rows = []
    for row in range(steps + 1):
        crossed = place.ceil().clamp_(0, steps - row + 1).add_(bins)
        rows.append(torch.bincount(crossed.int(), minlength=images * 2 * cuts * 2 * slots).int())
        place -= change
    places = torch.stack(rows).view(steps + 1, images, 2, cuts, 2, slots)
    return Crossings(anyway.view(images, 2, cuts + 1).int(), places)


def joined(parts: list[Crossings]) -> Crossings:
    """Those of all images from those of some."""
    return Crossings(torch.cat([part.anyway for part in parts]), torch.cat([part.places for part in parts], dim=1))


def above(found: Crossings) -> Iterator[tuple[tuple[int, int, int], Tensor]]:
    """Each point of the triangle, and how many pixels its weights put above each threshold: (N, 2, T)."""
    anyway = found.anyway.flip(-1).cumsum(-1).flip(-1)[..., 1:]
    steps = len(found.places) - 1
    for first, row in enumerate(found.places):
        rising, falling = row.unbind(-2)
        crossed = rising.cumsum(-1) + falling.sum(-1, keepdim=True) - falling.cumsum(-1)
        for second in range(steps - first + 1):
            yield (first, second, steps - first - second), anyway + crossed[..., second]
