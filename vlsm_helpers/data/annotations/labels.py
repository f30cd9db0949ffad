"""The masks of frames by class: from label maps, or from the annotations of a tool; else from files of masks of one class."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vlsm_helpers.data import labels as by_name
from vlsm_helpers.data import pairing
from vlsm_helpers.data.annotations import find as formats
from vlsm_helpers.data.annotations.classes import Classes
from vlsm_helpers.data.annotations.label_map import class_masks
from vlsm_helpers.data.annotations.regions import AnnotatedImage, Size
from vlsm_helpers.data.formats import AS_FILED, Reading
from vlsm_helpers.data.frames import Frame, frames, opened
from vlsm_helpers.data.labels import Labelled, Labels, MaskFile
from vlsm_helpers.errors import DataError, SettingsError

Key = tuple[Path, int]  # the file of a frame, and its number
SPLIT_FOLDERS = ("train", "val", "valid", "validation", "test")  # of datasets for training: no patients


@dataclass(frozen=True)
class LabelMaps:
    """Label maps in files of their own; several of a frame are united class by class."""

    named: Classes
    by_frame: dict[Key, tuple[MaskFile, ...]] = field(repr=False)
    reading: Reading = AS_FILED

    @property
    def classes(self) -> Sequence[str]:
        """The nouns, in the order in which they are named."""
        return self.named.names

    def masks(self, frame: Frame, size: Size) -> Labelled:
        """The masks of all classes, empty where a class does not occur. Raises DataError as `class_masks` does."""
        united: dict[str, np.ndarray] = {}
        for path, index in self.by_frame[frame.source, frame.index]:
            raster = opened(path, self.reading).label(index)
            for noun, mask in class_masks(raster, self.named, path).items():
                if noun in united and united[noun].shape != mask.shape:
                    hint = "save them at the image's size."
                    raise DataError("Label maps of one image have different sizes.", where=path, hint=hint)
                united[noun] = united[noun] | mask if noun in united else mask
        return Labelled(united, self.files(frame)[0], turn=raster.turn)

    def files(self, frame: Frame) -> Sequence[Path]:
        """The frame's label maps."""
        return [path for path, _ in self.by_frame[frame.source, frame.index]]


@dataclass(frozen=True)
class ToolAnnotations:
    """Regions that were drawn in an annotation tool, by frame; `named` says which of its classes count, and for which noun."""

    named: Classes
    by_frame: dict[Key, AnnotatedImage] = field(repr=False)

    @property
    def classes(self) -> Sequence[str]:
        """The nouns, in the order in which they are named."""
        return self.named.names

    def masks(self, frame: Frame, size: Size) -> Labelled:
        """The masks of all classes at the image's `size`, empty where it does not occur. Raises DataError for wrong regions."""
        image = self.by_frame[frame.source, frame.index]
        united = {noun: np.zeros(size, bool) for noun in self.classes}
        for label, mask in image.masks(size).items():
            if noun := self.named.noun(label, image.where):
                united[noun] |= mask
        return Labelled(united, image.file)

    def files(self, frame: Frame) -> Sequence[Path]:
        """The file of its annotation."""
        return [self.by_frame[frame.source, frame.index].file]


def find(
    images: Path,
    masks: Path,
    noun: str | None,
    named: Classes | None = None,
    *,
    reading: Reading = AS_FILED,
    foreground: str | None = None,
    mask_name: str | None = None,
    merge: bool = False,
) -> tuple[list[Frame], Labels]:
    """The frames of a folder of images and their labels, from whatever `masks` is: a file or folder of annotations, or pictures.

    Pictures are masks of the `noun`, or label maps where `named` says what their values or colours are; `mask_name`, `merge` and
    `foreground` are for pictures, see `labels.find`. Of annotations, `named` says which classes count and what they are called;
    without it the noun is all of them together, and without a noun they keep their names. Raises SettingsError for rules that do
    not fit together or the files, and DataError, naming files, for images and annotations that do not.
    """
    if noun is not None and named is not None:
        what = "Both a noun and labels say what the masks show."
        raise SettingsError(what, hint="give --noun for one target, or --labels for several classes.")
    source = formats.find(masks)
    rules = {"foreground": foreground, "mask_name": mask_name, "merge": merge or None}
    if source is None:
        return _of_pictures(images, masks, noun, named, reading, rules)
    if given := [name for name, value in rules.items() if value is not None]:
        option = {"merge": "merge-masks"}.get(given[0], given[0].replace("_", "-"))
        what = f"--{option} is for pictures of masks, and these are annotations in the format {source.format}."
        raise SettingsError(what, where=masks, hint="leave it out; --labels says which classes count.")
    alone = pairing.images_of(images)
    found = frames([one.image for one in alone], reading, [one.id for one in alone], [_patient(one) for one in alone])
    annotated = source.read([(frame.source, frame.index) for frame in found])
    occurring = list(dict.fromkeys(region.label for image in annotated for region in image.regions))
    if not occurring:
        hint = "export the annotations again, with their regions."
        raise DataError("None of the images has an annotated region.", where=masks, hint=hint)
    named = named or (Classes.own(occurring) if noun is None else Classes(dict.fromkeys(occurring, noun)))
    keys = [(frame.source, frame.index) for frame in found]
    return found, ToolAnnotations(named, dict(zip(keys, annotated, strict=True)))


def _of_pictures(
    images: Path, masks: Path, noun: str | None, named: Classes | None, reading: Reading, rules: dict
) -> tuple[list[Frame], Labels]:
    options = {"reading": reading, "mask_name": rules["mask_name"], "merge": bool(rules["merge"])}
    if named is None and noun is not None:
        return by_name.find(images, masks, noun, foreground=rules["foreground"], **options)
    if named is None:
        hint = "give --noun for masks of one target, or --labels 1=polyp,2=instrument for label maps."
        raise SettingsError("Nothing says what the masks show.", where=masks, hint=hint)
    if rules["foreground"] is not None:
        raise SettingsError("--foreground and --labels exclude each other.", hint="name every class with --labels.")
    found, files = by_name.find(images, masks, "", **options)
    return found, LabelMaps(named, files.by_frame, reading)


def _patient(pair: pairing.Pair) -> str:
    """The image's sub-folder, where it is no split."""
    return "/".join(part for part in pair.patient.split("/") if part.casefold() not in SPLIT_FOLDERS)
