"""Masks in the forms that other tools read, one module per format: COCO JSON, DICOM segmentations, NIfTI volumes."""

from types import ModuleType

from vlsm_helpers.errors import optional

PACKAGES = {"coco": ("pycocotools", "annotations"), "dicom-seg": ("highdicom", "dicom"), "nifti": ("nibabel", "nifti")}


def package(form: str) -> ModuleType:
    """The optional package that writes `form`. Raises SettingsError that says what to install where it is missing."""
    name, extra = PACKAGES[form]
    return optional(name, f"Writing {form}", extra)
