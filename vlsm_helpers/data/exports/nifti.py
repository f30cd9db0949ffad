"""Masks of slices as a NIfTI volume of labels with the geometry of the volume that the slices are of (nibabel)."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from vlsm_helpers.data.exports import package
from vlsm_helpers.data.formats.nifti import Volume
from vlsm_helpers.io import atomic


def write_labels(path: Path, volume: Volume, slices: Mapping[int, np.ndarray]) -> None:
    """Write labels, uint8 (H, W) by the number of their slice, as one .nii.gz file; slices that are not given are 0.

    Shape, affine, their codes and units are those of the file that `volume` was opened from. Raises SettingsError where nibabel
    is missing, or the file cannot be written.
    """
    nibabel = package("nifti")
    source = nibabel.load(volume.path)
    labels = volume.restore(slices).astype(np.uint8)
    image = nibabel.Nifti1Image(labels, source.affine)
    if isinstance(source, nibabel.Nifti1Pair):  # the codes say what the affine is relative to: the scanner, an atlas
        image.set_qform(source.get_qform(), int(source.header["qform_code"]))
        image.set_sform(source.get_sform(), int(source.header["sform_code"]))
        image.header.set_xyzt_units(*source.header.get_xyzt_units())
    with atomic.new_file(path, ending=".nii.gz") as partial:  # the library chooses compression by the ending
        nibabel.save(image, partial)
