"""Where the masks of frames come from: one small interface, and the files of masks that are paired by name."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from vlsm_helpers.data.formats import AS_FILED, Reading
from vlsm_helpers.data.formats.nifti import Volume
from vlsm_helpers.data.frames import Frame, frames, opened
from vlsm_helpers.data.masks import HINT, foreground_of
from vlsm_helpers.data.pairing import SHOWN, Pair, frame_number, pairs
from vlsm_helpers.errors import DataError, some_of

MaskFile = tuple[Path, int]  # a file, and the number of its frame


@dataclass(frozen=True)
class Labelled:
    """The masks of one frame.

    `masks`: by class (a noun such as "polyp"), bool (H, W), in proportions of the image; all of one size. `where`: the file that
    they come from, for messages. `level`: the value or colour that counted as foreground, "" where the format leaves no choice.
    `turn`: the EXIF orientation that was applied to them.
    """

    masks: dict[str, np.ndarray]
    where: Path
    level: str = ""
    turn: int = 1


class Labels(Protocol):
    """The masks of frames, from whatever they are stored in. `classes`: the nouns of all classes, in their order."""

    classes: Sequence[str]

    def masks(self, frame: Frame, size: tuple[int, int]) -> Labelled:
        """The masks of a frame whose image has this size (height, width), of all classes; empty where a class does not occur.

        Raises DataError, naming the file, where they cannot be used.
        """
        ...

    def files(self, frame: Frame) -> Sequence[Path]:
        """The files that its masks come from: if one changes, the frame is read again."""
        ...


@dataclass(frozen=True)
class MaskFiles:
    """Masks in files of their own, one class; several of a frame are united. `rule`: see `masks.find_foreground`."""

    noun: str
    by_frame: dict[tuple[Path, int], tuple[MaskFile, ...]] = field(repr=False)
    rule: str | None = None
    reading: Reading = AS_FILED

    @property
    def classes(self) -> Sequence[str]:
        """The one class."""
        return (self.noun,)

    def masks(self, frame: Frame, size: tuple[int, int]) -> Labelled:
        """The union of a frame's masks, at their own size.

        Raises DataError for one that is broken, ambiguous or of another size than the others.
        """
        parts = []
        for path, index in self.by_frame[frame.source, frame.index]:
            part = foreground_of(opened(path, self.reading).label(index), path, self.rule)
            if parts and part.mask.shape != parts[0].mask.shape:
                hint = "save them at the image's size."
                raise DataError("Masks of one image have different sizes.", where=path, hint=hint)
            parts.append(part)
        union = np.logical_or.reduce([part.mask for part in parts])
        levels = sorted({part.level for part in parts if union.any()} - {""})
        return Labelled({self.noun: union}, self.files(frame)[0], " and ".join(levels), parts[0].turn)

    def files(self, frame: Frame) -> Sequence[Path]:
        """The frame's mask files."""
        return [path for path, _ in self.by_frame[frame.source, frame.index]]

    def check_levels(self, levels: Sequence[str]) -> None:
        """Raise DataError for masks of two levels each, but not the same ones: 1 in some and 255 in others, red and green."""
        folder = next(iter(self.by_frame.values()))[0][0].parent
        counts = Counter({"alpha": "white"}.get(level, level) for level in levels if level)
        if self.rule is None and len(counts) > 1:
            shown = ", ".join(f"{level} in {count} masks" for level, count in counts.most_common(SHOWN))
            raise DataError(f"The foreground differs between masks: {shown}.", where=folder, hint=HINT)
        if self.rule is not None and not counts:
            what = f"The foreground {self.rule} is in none of the {len(levels)} masks."
            raise DataError(what, where=folder, hint="give one of the values or colours that the masks have.")


def find(
    images: Path,
    masks: Path,
    noun: str,
    *,
    reading: Reading = AS_FILED,
    foreground: str | None = None,
    mask_name: str | None = None,
    merge: bool = False,
) -> tuple[list[Frame], Labels]:
    """The frames of a folder of images, and their labels: files of masks with the images' names (see `pairing.pairs`).

    A mask file of several frames has as many as its image; masks of single frames end with their numbers, from 0. Raises
    DataError that names images without masks, masks without an image, and files that cannot be opened.
    """
    found = pairs(images, masks, mask_name, merge)
    files, names = [pair.image for pair in found], [pair.id for pair in found]
    expanded = frames(files, reading, names, [pair.patient for pair in found])
    by_file: dict[Path, list[Frame]] = {}
    for frame in expanded:
        by_file.setdefault(frame.source, []).append(frame)
    by_frame = {}
    for pair in found:
        by_frame |= _by_frame(pair, by_file[pair.image], reading, merge)
    return expanded, MaskFiles(noun, by_frame, foreground, reading)


def _by_frame(
    pair: Pair, mine: Sequence[Frame], reading: Reading, merge: bool
) -> dict[tuple[Path, int], tuple[MaskFile, ...]]:
    """The masks of each frame of an image file."""
    count = opened(pair.image, reading).count if not mine[0].plain else 1
    found: dict[int, list[MaskFile]] = {frame.index: [] for frame in mine}
    for mask in pair.masks:
        number = frame_number(mask, pair.image) if count > 1 else None
        for index, of_mask in [(number, 0)] if number is not None else _matching(pair.image, mask, count, reading):
            if index >= count:
                what = f"There is no frame {index}: {pair.image.name} has {count}, counted from 0."
                raise DataError(what, where=mask, hint="name masks of frames by the image and the frame's number.")
            if index in found:  # of every Nth frame, the others are not used
                found[index].append((mask, of_mask))
    if lonely := [f"frame {index}" for index, files in found.items() if not files]:
        what = f"Frames of {pair.image.name} without a mask ({len(lonely)}): {some_of(lonely)}."
        hint = "add a mask for each (all black where there is nothing), or give one file with as many frames."
        raise DataError(what, where=pair.masks[0].parent, hint=hint)
    if not merge and (several := [mask.name for files in found.values() if len(files) > 1 for mask, _ in files]):
        hint = "give --merge-masks if all masks of an image together are its foreground, or keep one of each."
        what = f"Several masks of one image ({len(several)}): {some_of(several)}."
        raise DataError(what, where=pair.masks[0].parent, hint=hint)
    return {(pair.image, index): tuple(files) for index, files in found.items()}


def _matching(image: Path, mask: Path, count: int, reading: Reading) -> list[tuple[int, int]]:
    """Frame for frame: the numbers of the image's frames and of the mask file's."""
    source = opened(mask, reading)
    if source.count != count:
        what = f"The mask file has {source.count} frame{'s' * (source.count > 1)}, its image {image.name} has {count}."
        raise DataError(what, where=mask, hint="save one mask per frame, or a file with as many frames as the image.")
    if isinstance(source, Volume) and isinstance(other := opened(image, reading), Volume) and not source.lies_as(other):
        what = f"The mask volume does not lie where its image {image.name} lies (other shape or affine)."
        raise DataError(what, where=mask, hint="resample the segmentation to the image's grid.")
    return [(index, index) for index in range(count)]
