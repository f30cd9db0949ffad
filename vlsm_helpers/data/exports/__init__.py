"""Masks in the forms that other tools read, one module per format: COCO JSON, DICOM segmentations, NIfTI volumes."""

import importlib
from types import ModuleType

from vlsm_helpers.errors import SettingsError, to_install

PACKAGES = {"coco": ("pycocotools", "annotations"), "dicom-seg": ("highdicom", "dicom"), "nifti": ("nibabel", "nifti")}


def package(form: str) -> ModuleType:
    """The optional package that writes `form`. Raises SettingsError that says what to install where it is missing."""
    name, extra = PACKAGES[form]
    try:
        return importlib.import_module(name)
    except ImportError:
        what = f"Writing {form} needs the package {name}, which is not installed."
        raise SettingsError(what, hint=to_install(extra)) from None
