"""Run-length codes of masks: COCO's (down the columns, as numbers or as text) and CVAT's (along the rows of a box)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vlsm_helpers.errors import DataError


def decode_rle(rle: dict, where: str | Path | None = None) -> np.ndarray:
    """The mask, bool (H, W), of a COCO run-length code: {"size": [H, W], "counts": text or numbers}.

    The counts are the lengths of runs of background, foreground, background, ... down the columns. In the text a number takes
    characters of 5 bits, lowest first, each offset by 48, with a sixth bit that says "goes on", signed in two's
    complement; from the fourth on, a number is the difference to the one two places before. Source: COCO API,
    `maskApi.c` (rleToString). Raises DataError, naming `where`, if the runs do not fill the size or are no such code.
    """
    try:
        height, width = (int(side) for side in rle["size"])
        counts = rle["counts"]
        runs = _runs_of_text(counts) if isinstance(counts, str) else np.array(counts, np.int64).reshape(-1)
    except (KeyError, TypeError, ValueError, OverflowError):
        what = 'It is no run-length code {"size": [height, width], "counts": ...}.'
        raise DataError(what, where=where, hint="export or fetch the annotations again.") from None
    return fill(runs, (width, height), where).T


def fill(runs: Sequence[int] | np.ndarray, shape: tuple[int, int], where: str | Path | None = None) -> np.ndarray:
    """A mask, bool of `shape`, from the lengths of runs of background, foreground, ... along its rows.

    Raises DataError, naming `where`, for negative runs and where they do not fill the shape.
    """
    runs = np.asarray(runs, np.int64)
    if (runs < 0).any() or runs.sum() != shape[0] * shape[1]:
        what = f"The run-length code gives {runs.sum()} pixels, its size says {shape[1]} x {shape[0]}."
        raise DataError(what, where=where, hint="export or fetch the annotations again.")
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(shape)


def _runs_of_text(text: str) -> np.ndarray:
    codes = np.frombuffer(text.encode("ascii"), np.uint8).astype(np.int64) - 48
    if not len(codes):
        return np.zeros(0, np.int64)
    ends = codes & 32 == 0
    number = np.cumsum(ends) - ends  # which number each character belongs to
    starts = np.flatnonzero(np.concatenate([[True], ends[:-1]]))
    shift = np.minimum(5 * (np.arange(len(codes)) - starts[number]), 55)
    digits = ((codes & 31) << shift) - np.where(ends & (codes & 16 > 0), 1 << (shift + 5), 0)
    runs = np.zeros(len(starts), np.int64)
    np.add.at(runs, number, digits)
    for first in (1, 2):
        runs[first::2] = np.cumsum(runs[first::2])
    return runs
