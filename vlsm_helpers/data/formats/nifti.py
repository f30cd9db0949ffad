"""NIfTI volumes (nibabel): one frame a slice, upright, with one scale of intensity per volume.

A volume is first turned, by flips and transposes alone, so that its axes run to the patient's left, back and head: LPS, as in
DICOM (https://nipy.org/nibabel/coordinate_systems.html). Axial slices then have the patient's right on the left side and the
front on top; coronal and sagittal slices have the head on top. Slices are counted from the right, the front or the feet.
"""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import numpy as np

from vlsm_helpers.data.formats import AXES, Reading, Source, black_and_white, to_bytes
from vlsm_helpers.data.raster import Raster
from vlsm_helpers.errors import DataError, optional

_HINT = "export the volume again, as NIfTI with three dimensions."
_AXIAL = AXES.index("axial")


class Volume(Source):
    """A NIfTI file of two or three dimensions, cut along `reading.axis`, or, if it is one slice thick, across that axis.

    `orientation`: the axis codes of the file, such as RAS. `affine`, (4, 4): from voxels of the turned volume to millimetres.
    Raises DataError for a file that is broken, gives no directions, or holds a series of volumes.
    """

    def __init__(self, path: Path, reading: Reading):
        super().__init__(path, reading)
        nibabel = optional("nibabel", "A NIfTI file", "nifti", error=DataError, where=path)
        try:
            self._file = nibabel.load(path)
            shape, affine = self._file.shape, self._file.affine
            codes = nibabel.aff2axcodes(affine)
        except Exception as error:  # nibabel raises many kinds of errors on damaged files
            raise _broken(path, error) from None
        if len(shape) > 3 and set(shape[3:]) != {1}:
            what = f"The NIfTI file holds a series of volumes, not one (shape {' x '.join(map(str, shape))})."
            raise DataError(what, where=path, hint="save one volume per file (nibabel: four_to_three).")
        if None in codes:
            raise DataError("The NIfTI file gives its axes no direction.", where=path, hint=_HINT)
        tools = nibabel.orientations
        self.orientation, self._shape = "".join(codes), (*shape, 1, 1)[:3]
        stored, upright = tools.io_orientation(affine), tools.axcodes2ornt("LPS")
        self._turn, self._turn_back = tools.ornt_transform(stored, upright), tools.ornt_transform(upright, stored)
        self.affine = affine @ tools.inv_ornt_aff(self._turn, self._shape)
        self._oriented = tools.apply_orientation
        self.shape = self._oriented(np.broadcast_to(np.int8(0), self._shape), self._turn).shape
        thin = [axis for axis, size in enumerate(self.shape) if size == 1]
        self._cut = thin[-1] if thin else AXES.index(reading.axis)
        self.count = self.shape[self._cut]
        self.note = f"volumes stored as {self.orientation}, cut into upright {AXES[self._cut]} slices"
        sizes = np.linalg.norm(self.affine[:3, :3], axis=0)
        columns, rows = (axis for axis in range(3) if axis != self._cut)
        self.spacing = float(sizes[rows]), float(sizes[columns])

    def image(self, index: int) -> Raster:
        """The slice with 8 bits per channel."""
        return Raster(self._slice(self._bytes, index), 8)

    def label(self, index: int) -> Raster:
        """The slice of a volume of labels, as whole numbers."""
        return Raster(self._slice(self._labels, index), 16)

    def restore(self, slices: Mapping[int, np.ndarray]) -> np.ndarray:
        """The volume, its axes as in the file, that has these slices (H, W) by their numbers, and 0 elsewhere."""
        volume = np.zeros(self.shape, np.result_type(*slices.values()))
        for index, pixels in slices.items():
            np.moveaxis(volume, self._cut, 0)[index] = self._flipped(pixels).swapaxes(0, 1)
        return self._oriented(volume, self._turn_back)

    def lies_as(self, other: "Volume") -> bool:
        """Whether the other volume has the same shape, and its corners within half a voxel of these."""
        if self.shape != other.shape:
            return False
        corners = np.array([[*np.multiply(corner, self.shape), 1] for corner in np.ndindex(2, 2, 2)])
        apart = np.linalg.norm((corners @ (self.affine - other.affine).T)[:, :3], axis=1)
        return bool(apart.max() < np.linalg.norm(self.affine[:3, :3], axis=0).min() / 2)

    def _slice(self, volume: np.ndarray, index: int) -> np.ndarray:
        pixels = self._flipped(np.take(volume, index, axis=self._cut).swapaxes(0, 1))
        return np.ascontiguousarray(pixels if pixels.ndim == 3 else pixels[..., None])

    def _flipped(self, pixels: np.ndarray) -> np.ndarray:
        """Rows from the head down, where rows run along the body."""
        return pixels if self._cut == _AXIAL else pixels[::-1]

    @cached_property
    def _bytes(self) -> np.ndarray:
        """The turned volume, uint8: (X, Y, Z), or (X, Y, Z, 3) in colour."""
        if self._file.get_data_dtype().names == ("R", "G", "B"):
            stored = self._stored(None)
            values = np.stack([stored[name] for name in stored.dtype.names], axis=-1)
        elif self._file.get_data_dtype().kind not in "iuf":
            what = f"Its voxels are of type {self._file.get_data_dtype()}, which has no brightness."
            raise DataError(what, where=self.path, hint=_HINT)
        else:
            values = self._stored(np.float32)
            values = to_bytes(values, *black_and_white(values, self.reading.window))
        return self._oriented(values, self._turn)

    @cached_property
    def _labels(self) -> np.ndarray:
        """The turned volume as whole numbers."""
        stored = self._stored(None)
        if stored.dtype.kind not in "iufb" or (stored % 1).any() or stored.min() < 0 or stored.max() > 65535:
            what = f"Its voxels, {stored.dtype}, are no labels from 0 to 65535."
            raise DataError(what, where=self.path, hint="save the segmentation as whole numbers.")
        return self._oriented(stored.astype(np.uint16), self._turn)

    def _stored(self, kind: type | None) -> np.ndarray:
        try:
            return np.asarray(self._file.dataobj, kind).reshape(self._shape)
        except Exception as error:  # of any kind for truncated and damaged data
            raise _broken(self.path, error) from None


def _broken(path: Path, error: Exception) -> DataError:
    what = f"The NIfTI file is truncated or corrupt ({type(error).__name__})."
    return DataError(what, where=path, hint="fetch or export the file again.")
