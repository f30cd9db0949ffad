"""DICOM segmentations (DICOM PS3.3, A.51), which refer to their images by SOP instance UID; decoded by the package highdicom.

Nothing of an error or a result names a UID or a patient: images are known by their files.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from vlsm_helpers.data.annotations.regions import EXPORT, AnnotatedImage, Region, Size
from vlsm_helpers.errors import DataError, optional, some_of

SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"  # Segmentation Storage
LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.7"  # Label Map Segmentation Storage
SHARE = 0.5  # of a fractional segmentation: a pixel counts from this probability or occupancy on


def is_segmentation(path: Path) -> bool:
    """Whether a file is a DICOM segmentation."""
    return _facts(path, "SOPClassUID") in (SEGMENTATION, LABEL_MAP)


def read(files: Sequence[Path], sources: Sequence[tuple[Path, int]]) -> list[AnnotatedImage]:
    """For each frame (DICOM file, number of the frame from 0) what the segmentations say of it; segments of one label are united.

    Raises DataError, naming files, for files that are no segmentations, and for frames and segmentations that do not refer to
    each other; SettingsError where highdicom is not installed.
    """
    readers: dict[str, list[_Reader]] = {}
    opened = [_Reader(path) for path in files]
    for reader in opened:
        for uid in reader.uids:
            readers.setdefault(uid, []).append(reader)
    uids = [str(_facts(path, "SOPInstanceUID")) for path, _ in sources]
    unreferenced = [path.name for (path, _), uid in zip(sources, uids, strict=True) if uid not in readers]
    if lonely := list(dict.fromkeys(unreferenced)):
        hint = "export a segmentation of them (an empty one where there is nothing), or remove these images."
        what = f"Images that no DICOM segmentation refers to ({len(lonely)}): {some_of(lonely)}."
        raise DataError(what, where=files[0].parent, hint=hint)
    if strangers := [reader.path.name for reader in opened if not reader.uids & set(uids)]:
        what = f"DICOM segmentations of images that are not here ({len(strangers)}): {some_of(strangers)}."
        raise DataError(what, where=files[0].parent, hint="put their images there, or remove these segmentations.")
    frames = {path: int(_facts(path, "NumberOfFrames") or 1) for path, _ in sources}
    return [
        _annotated(readers[uid], uid, path, number if frames[path] > 1 else None)
        for (path, number), uid in zip(sources, uids, strict=True)
    ]


def _annotated(readers: list["_Reader"], uid: str, path: Path, number: int | None) -> AnnotatedImage:
    regions = [
        Region(label, partial(reader.drawn, segment, uid, number))
        for reader in readers
        for segment, label in reader.labels.items()
    ]
    return AnnotatedImage(path.name, readers[0].path, str(readers[0].path), None, tuple(regions))


class _Reader:
    """One segmentation: its labels by segment number, and the UIDs of the images that it refers to."""

    def __init__(self, path: Path):
        highdicom, self.path = optional("highdicom", "Decoding a DICOM segmentation", "dicom"), path
        try:
            self._content = highdicom.seg.segread(path)
            describe, numbers = self._content.get_segment_description, self._content.segment_numbers
            self.labels = {number: str(describe(number).segment_label) for number in numbers}
            self.uids = {str(uid) for _, _, uid in self._content.get_source_image_uids()}
        except Exception as error:  # highdicom and pydicom raise many kinds of errors on damaged files
            what = f"The file is no DICOM segmentation that can be decoded ({type(error).__name__})."
            raise DataError(what, where=path, hint=EXPORT) from None

    def drawn(self, segment: int, uid: str, number: int | None, size: Size) -> np.ndarray:
        options = {
            "segment_numbers": [segment],
            "assert_missing_frames_are_empty": True,
            "ignore_spatial_locations": True,
        }
        try:
            if number is None:
                pixels = self._content.get_pixels_by_source_instance([uid], **options)
            else:
                pixels = self._content.get_pixels_by_source_frame(uid, [number + 1], **options)
        except Exception as error:
            what = f"The segmentation cannot be decoded ({type(error).__name__})."
            raise DataError(what, where=self.path, hint=EXPORT) from None
        mask = pixels[0, ..., 0] >= SHARE
        if mask.shape != size:
            what = f"The segmentation has {mask.shape[1]} x {mask.shape[0]} pixels, its image {size[1]} x {size[0]}."
            raise DataError(what, where=self.path, hint="export it at the size of the images.")
        return mask


def _facts(path: Path, keyword: str) -> object:
    """The value of one header entry of a DICOM file, "" where it has none or is no DICOM file."""
    pydicom = optional("pydicom", "Reading DICOM files", "dicom")
    try:
        return pydicom.dcmread(path, stop_before_pixels=True, specific_tags=[keyword]).get(keyword, "")
    except (OSError, pydicom.errors.InvalidDicomError, ValueError, EOFError):
        return ""
