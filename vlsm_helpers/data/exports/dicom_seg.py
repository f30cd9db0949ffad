"""Masks as a DICOM segmentation that refers to the image it is of (highdicom; DICOM PS3.3 A.51).

Such a file carries the patient and study of its source, as the standard demands: it identifies the patient as the source does.
"""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vlsm_helpers import __version__
from vlsm_helpers.data.exports import package
from vlsm_helpers.errors import DataError
from vlsm_helpers.io import atomic

if TYPE_CHECKING:
    from pydicom import Dataset

MAKER, SOFTWARE = "VLSM-Ensemble, step by step", "vlsm_helpers"
SCHEME = "99VLSM"  # a private coding scheme (PS3.16 section 8): what a prompt names has no standard code
SECTIONS = {"CT", "MR", "PT"}  # of these a slice thickness is demanded
LONGEST = 64  # characters of a label (value representation LO)


def write_segmentation(
    path: Path, source: Path, masks: Mapping[int, Mapping[str, np.ndarray]], classes: Sequence[str]
) -> None:
    """Write masks, bool (H, W) by class, of the frames of a DICOM file by their numbers, from 0; others are empty.

    Segments are numbered from 1 in the order of `classes`, and labelled with their names. UIDs follow from the source's and
    from the masks, so that the same masks give the same instance. Raises DataError for a source that lacks what the standard
    demands, without quoting its header, and SettingsError where highdicom is missing or the file cannot be written.
    """
    package("dicom-seg")
    import pydicom

    image = _placed_or_not(pydicom.dcmread(source))
    frames = int(image.get("NumberOfFrames") or 1)
    if frames > 1 and "FrameOfReferenceUID" not in image:  # highdicom, issue 284
        what = f"A DICOM segmentation of {frames} frames needs a frame of reference, and a clip has none."
        raise DataError(what, where=source, hint="choose coco for clips, or export their frames as files of one frame.")
    pixels = np.zeros((frames, image.Rows, image.Columns, len(classes)), np.uint8)
    for index, by_class in masks.items():
        pixels[index] = np.stack([by_class[text] for text in classes], axis=-1)
    try:
        with atomic.new_file(path) as partial, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they may quote the header
            _segmentation(image, pixels, classes).save_as(partial, enforce_file_format=True)
    except (AttributeError, KeyError, ValueError, TypeError) as error:
        missing = f": it has no {error.name}" if isinstance(error, AttributeError) and error.name else ""
        what = f"A DICOM segmentation of this file cannot be made ({type(error).__name__}{missing})."
        raise DataError(what, where=source, hint="leave out dicom-seg; masks are also written as PNG.") from None


def _placed_or_not(image: "Dataset") -> "Dataset":
    """The image without its place in the patient where it is no section and has no slice thickness: highdicom neither writes nor
    reads masks of such images, so that they refer to the image alone, pixel by pixel."""
    single = int(image.get("NumberOfFrames") or 1) == 1
    if single and not image.get("SliceThickness") and image.get("Modality") not in SECTIONS:
        for keyword in ("FrameOfReferenceUID", "PixelSpacing"):
            if keyword in image:
                delattr(image, keyword)
    return image


def _segmentation(image: "Dataset", pixels: np.ndarray, classes: Sequence[str]):
    """highdicom's dataset of masks uint8 (frames, H, W, classes)."""
    import highdicom
    from pydicom.uid import generate_uid

    origin = [str(image.SOPInstanceUID), *classes]
    return highdicom.seg.Segmentation(
        source_images=[image],
        pixel_array=pixels,
        segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[_segment(number, text) for number, text in enumerate(classes, start=1)],
        series_instance_uid=generate_uid(entropy_srcs=[str(image.SeriesInstanceUID), SOFTWARE]),
        series_number=int(image.get("SeriesNumber") or 0) + 1000,
        sop_instance_uid=generate_uid(entropy_srcs=[*origin, pixels.tobytes().hex()]),
        instance_number=int(image.get("InstanceNumber") or 1),
        manufacturer=MAKER,
        manufacturer_model_name=SOFTWARE,
        software_versions=__version__,
        device_serial_number="none",
        content_description="Predicted from text prompts; not for clinical use",
        series_description="Predicted masks; not for clinical use",
    )


def _segment(number: int, text: str):
    """What segment `number` is of: the prompt, and that software made it."""
    import highdicom
    from pydicom.sr.codedict import codes

    label = text[:LONGEST] or "empty prompt"
    return highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=label,
        segmented_property_category=highdicom.sr.CodedConcept("TARGET", SCHEME, "Target of a text prompt"),
        segmented_property_type=highdicom.sr.CodedConcept(f"TARGET{number}", SCHEME, label),
        algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name=SOFTWARE, version=__version__, family=codes.DCM.ArtificialIntelligence
        ),
    )
