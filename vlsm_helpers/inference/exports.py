"""The masks that `segment_files` wrote, once more in the forms that other tools read: COCO JSON, DICOM-SEG, NIfTI."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from vlsm_helpers.data.exports import PACKAGES, package
from vlsm_helpers.data.exports.coco import write_coco
from vlsm_helpers.data.exports.dicom_seg import write_segmentation
from vlsm_helpers.data.exports.nifti import write_labels
from vlsm_helpers.data.files import kind, stem
from vlsm_helpers.data.frames import Frame, opened
from vlsm_helpers.errors import DataError, SettingsError, unknown
from vlsm_helpers.inference.batch import ELSEWHERE, REQUEST, Names
from vlsm_helpers.io.progress import tqdm

COCO = "segmented_coco.json"
OF_KIND = {"dicom-seg": ("dicom", "{}_seg.dcm"), "nifti": ("nifti", "{}_labels.nii.gz")}  # what they are written for


def check_forms(forms: Sequence[str], images: Sequence[Path], output: Path) -> None:
    """Raise SettingsError for an unknown form, a missing package, a form that none of the images can be written in, and where
    a folder that `segment_files` has not begun holds such files."""
    for form in forms:
        if form not in PACKAGES:
            raise unknown("form", form, PACKAGES, error=SettingsError)
        package(form)
        of_kind, pattern = OF_KIND.get(form, (None, COCO))
        if of_kind and not any(kind(path) == of_kind for path in images):
            what = f"{form} is written for {of_kind.upper()} images, and none of these is one."
            raise SettingsError(what, hint="leave it out: masks are written as PNG, too; or choose coco.")
        there = next(output.glob(pattern.format("*")), None)
        if there and not (output / REQUEST).exists():
            raise SettingsError(f"{there.name} is there already.", where=output, hint=ELSEWHERE)


def export(
    forms: Sequence[str], images: Sequence[Frame], output: Path, prompts: Sequence[str]
) -> tuple[list[Path], list[DataError]]:
    """Write the masks in `output` of these frames, those that are there, in each of the forms.

    coco: one segmented_coco.json. dicom-seg: one NAME_seg.dcm per DICOM file; nifti: one NAME_labels.nii.gz per volume. The
    files, and why some have no segmentation. Raises SettingsError as the writers do.
    """
    images = [frame for frame in images if all((output / file).exists() for file in Names.of(frame.id, prompts).all())]
    written, failed = [], []
    if "coco" in forms:
        named = ((frame.source.name if frame.plain else frame.id, _masks(frame, output, prompts)) for frame in images)
        write_coco(output / COCO, tqdm(named, "coco", len(images), unit="image", delay=2), prompts)
        written.append(output / COCO)
    for form in [form for form in forms if form in OF_KIND]:
        for path, of_file in tqdm(_files(images, output, form).items(), form, unit="file", delay=2):
            try:
                _write_file(form, path, of_file, output, prompts)
                written.append(path)
            except DataError as error:
                failed.append(error)
    return written, failed


def _write_file(form: str, path: Path, images: Sequence[Frame], output: Path, prompts: Sequence[str]) -> None:
    """Write the masks of the frames of one file."""
    source = images[0].source
    if form == "dicom-seg":
        write_segmentation(path, source, {frame.index: _masks(frame, output, prompts) for frame in images}, prompts)
    else:
        labels = {frame.index: _labels(frame, output, prompts) for frame in images}
        write_labels(path, opened(source, images[0].reading), labels)


def _files(images: Sequence[Frame], output: Path, form: str) -> dict[Path, list[Frame]]:
    """The frames of each file that `form` is written for, by the path of what is written."""
    of_kind, pattern = OF_KIND[form]
    found = defaultdict(list)
    for frame in images:
        if kind(frame.source) == of_kind:
            name = opened(frame.source, frame.reading).identity or stem(frame.source)
            found[output / pattern.format(name)].append(frame)
    return found


def _masks(frame: Frame, output: Path, prompts: Sequence[str]) -> dict[str, np.ndarray]:
    """A frame's masks, bool (H, W), by prompt."""
    return {prompt: _read(output / file) > 0 for prompt, file in Names.of(frame.id, prompts).masks.items()}


def _labels(frame: Frame, output: Path, prompts: Sequence[str]) -> np.ndarray:
    """A frame's label map, uint8 (H, W): of a single prompt 1 in its mask."""
    names = Names.of(frame.id, prompts)
    return (
        _read(output / names.labels) if names.labels else (_read(output / names.masks[prompts[0]]) > 0).view(np.uint8)
    )


def _read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)
