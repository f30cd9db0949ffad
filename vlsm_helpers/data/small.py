"""What small datasets suffer from, told before a training: how wide the interval of a score will be, and masks that mislead."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from scipy.stats import t as student

from vlsm_helpers.data.samples import Sample
from vlsm_helpers.data.seen import SeenMask

SMALL = 100  # images: reports on a dataset of fewer state the expected interval
SPREAD = 0.25  # standard deviation of Dice between images; 0.24 to 0.35 in the course's runs on Kvasir-SEG, ClinicDB and BUSI
NETWORK_SIZE = 352  # pixels per side that CLIPSeg takes: the largest of the course's networks
DOMINATING = 0.5  # a share of the images that no patient should exceed
COARSE = 4  # pixels per side of the squares that masks are made of, from where they are called coarse
_MOST, _SEVERAL = 0.9, 5  # a share of the masks, and a number: then it is no chance
Row = tuple[str, str, str, str, str]


def half_width(units: int, spread: float = SPREAD) -> float:
    """Half the width of the 95 % interval to expect of a mean Dice over independent `units` (patients), 0 to 1.

    Student's t: t(0.975, n - 1) * spread / sqrt(n), for scores that spread by `spread` (a standard deviation) around their mean.
    With one unit nothing can be said: 1.

    >>> round(half_width(12), 2), round(half_width(200), 2)
    (0.16, 0.03)
    """
    if units < 2:
        return 1.0
    return min(1.0, float(student.ppf(0.975, units - 1)) * spread / np.sqrt(units))


def outlook(splits: Mapping[str, Sequence[Sample]]) -> str:
    """In words: what a score on the test split will be worth; empty for a dataset of 100 images and more."""
    images = {sample.image for samples in splits.values() for sample in samples}
    units = {_group(sample) for sample in splits.get("test", ())}
    if len(images) >= SMALL or not units:
        return ""
    wide = half_width(len(units))
    grouped = any("group" in sample.attributes for sample in splits["test"])
    return (
        f"{len(images)} images are few: with {len(units)} {'groups' if grouped else 'images'} in test, expect a 95 % interval of "
        f"about ± {100 * wide:.0f} percentage points around a mean Dice (if it has a standard deviation of {100 * SPREAD:.0f} "
        "points between them, as on public datasets). Smaller differences between models will not show."
    )


def suspicions(splits: Mapping[str, Sequence[Sample]], masks: Mapping[str, Mapping[object, SeenMask]]) -> Iterator[Row]:
    """Warnings as rows of `check`: severity, kind, split, file, detail."""
    yield from _dominating(splits)
    yield from _empty_in_one_split(masks)
    for split, seen in masks.items():
        yield from _strange_targets(split, [mask for mask in seen.values() if mask.area])
    yield from _not_by_pixel([mask for seen in masks.values() for mask in seen.values() if mask.area])


def _group(sample: Sample) -> object:
    return sample.attributes.get("group", sample.image)


def _dominating(splits: Mapping[str, Sequence[Sample]]) -> Iterator[Row]:
    images = {sample.image: _group(sample) for samples in splits.values() for sample in samples}
    where = {_group(sample): split for split, samples in splits.items() for sample in samples}
    for group, count in Counter(images.values()).most_common(1):
        if count > max(1, DOMINATING * len(images)):
            detail = (
                f"{count} of {len(images)} images are of the group {group}: a score says little about other patients"
            )
            yield "warning", "one patient", where[group], "images/", detail


def _empty_in_one_split(masks: Mapping[str, Mapping[object, SeenMask]]) -> Iterator[Row]:
    empty = {split: sum(not mask.area for mask in seen.values()) for split, seen in masks.items()}
    having = [split for split, count in empty.items() if count]
    if len(having) == 1 and empty[having[0]] >= len(masks) > 1:  # each split could have one
        detail = f"{empty[having[0]]} masks are empty here and none in the other splits: scores cannot be compared"
        yield "warning", "empty in one split", having[0], "masks/", detail


def _strange_targets(split: str, drawn: Sequence[SeenMask]) -> Iterator[Row]:
    """Targets that vanish at the network's size, and masks that reach every border."""
    for mask in drawn:
        if mask.foreground * NETWORK_SIZE**2 < 1:
            detail = (
                f"the target has {mask.area} of {mask.width * mask.height} pixels: less than one at {NETWORK_SIZE} px"
            )
            yield "warning", "tiny target", split, mask.file, detail
        if mask.touches_borders and not mask.corners and mask.foreground <= 0.5:
            yield "warning", "touches every border", split, mask.file, "a frame or a mark around the picture?"


def _not_by_pixel(drawn: Sequence[SeenMask]) -> Iterator[Row]:
    """Masks that nearly all are made of large squares, or are rectangles."""
    most = max(_SEVERAL, _MOST * len(drawn))
    coarse = [mask.grain for mask in drawn if mask.grain >= COARSE]
    if len(coarse) >= most:
        detail = f"{len(coarse)} of {len(drawn)} masks are made of squares of {min(coarse)} px or more: drawn coarsely?"
        yield "warning", "coarse masks", "all", "masks/", detail
    boxes = sum(mask.is_box for mask in drawn)
    if boxes >= most:
        detail = f"{boxes} of {len(drawn)} masks are filled rectangles: boxes instead of outlines?"
        yield "warning", "boxes", "all", "masks/", detail
