"""DICOM images (pydicom and its decoders): one frame each, as a viewer would show it; what identifies a patient stays inside.

The grey-scale pipeline is that of PS3.3 C.11 and PS3.4 N.2: stored values, modality LUT or rescale, VOI LUT or window, inversion
(MONOCHROME1). Ids of frames are hashes of the SOP Instance UID, so that they are the same in every run and on every machine.
No message of this module quotes a value of the header, nor an error of pydicom, which may.
"""

import hashlib
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from vlsm_helpers.data.formats import Reading, Source, black_and_white, to_bytes
from vlsm_helpers.data.raster import Raster, too_large
from vlsm_helpers.errors import DataError, optional

if TYPE_CHECKING:
    from pydicom import Dataset

ENDINGS = {".dcm", ".dicom", ".ima"}
_WINDOW = ("WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence")
_RESCALE = ("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence")
# Of enhanced multi-frame images.
_GROUPS = ("FrameVOILUTSequence", "PixelValueTransformationSequence", "PixelMeasuresSequence")
_WITHOUT_WINDOW = (
    "DICOM files without a window, each scaled by its percentiles: give --window CENTER,WIDTH for one scale"
)
_DECODERS = "install the extra with all decoders, pip install -e '.[dicom]', or convert it: `gdcmconv --raw FILE NEW`."


def is_dicom(path: Path) -> bool:
    """Whether a file without a known ending is a DICOM file: DICM stands after 128 bytes (PS3.10 7.1); not a DICOMDIR."""
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM" and path.name.upper() != "DICOMDIR"
    except OSError:
        return False


class Dicom(Source):
    """A DICOM file with pixels.

    `patient`: its PatientID, else its StudyInstanceUID, None where it has neither. Raises DataError for files that are broken,
    have no pixels or are segmentations.
    """

    def __init__(self, path: Path, reading: Reading):
        super().__init__(path, reading)
        self._pydicom = optional("pydicom", "A DICOM file", "dicom", error=DataError, where=path)
        with _discreet(path, "read"):
            header = self._pydicom.dcmread(path, stop_before_pixels=True, force=path.suffix.lower() in ENDINGS)
            self._header = header
            self.count = int(header.get("NumberOfFrames") or 1)
            rows, columns = int(header.get("Rows") or 0), int(header.get("Columns") or 0)
            uid = str(header.get("SOPInstanceUID") or "")
            self.patient = str(header.get("PatientID") or header.get("StudyInstanceUID") or "").strip() or None
            modality = str(header.get("Modality") or "")
            self.spacing = self._spacing()
            self.note = "" if self.windowed or not rows else _WITHOUT_WINDOW
        if not rows * columns:
            what = "The DICOM file has no picture (it may be a report, a plan, or not DICOM at all)."
            raise DataError(what, where=path, hint="leave it out, or export the images again.")
        if modality == "SEG":
            what = "The DICOM file is a segmentation, not an image."
            raise DataError(what, where=path, hint="give it as the masks of the images.")
        if not uid:
            what = "The DICOM file has no SOP Instance UID."
            raise DataError(what, where=path, hint="export it again, or convert it to PNG.")
        if rows * columns > 2 * Image.MAX_IMAGE_PIXELS:
            raise too_large(rows * columns, path)
        self.identity = "dicom-" + hashlib.sha256(uid.encode()).hexdigest()[:16]

    def image(self, index: int) -> Raster:
        """The frame as a viewer shows it: 8 bits per channel, grey or RGB."""
        stored, header = self._stored(index), self._header
        with _discreet(self.path, "shown"):
            if stored.ndim == 3:
                return _coloured(stored, int(header.BitsStored))
            if header.PhotometricInterpretation == "PALETTE COLOR":
                colours = self._pydicom.pixels.apply_color_lut(stored, header)
                return _coloured(colours, 8 * colours.itemsize)
            values = self._pydicom.pixels.apply_modality_lut(stored, self._rules(index, _RESCALE))
            shown = self._in_window(values, index)
            return Raster((255 - shown if self._inverted else shown)[..., None], 8)

    def label(self, index: int) -> Raster:
        """The numbers that the frame stores."""
        stored = self._stored(index)
        return Raster(stored if stored.ndim == 3 else stored[..., None], int(self._header.BitsStored))

    @property
    def windowed(self) -> bool:
        """Whether the intensities that become black and white are known, without taking percentiles of them."""
        return self.reading.window is not None or bool(self._window(0)) or self._is_plain

    @property
    def _is_plain(self) -> bool:
        """Whether its numbers are colours, or grey levels of 8 bits."""
        header = self._header
        if int(header.get("SamplesPerPixel") or 1) > 1 or header.PhotometricInterpretation == "PALETTE COLOR":
            return True
        unsigned = int(header.BitsStored) <= 8 and not header.PixelRepresentation
        return unsigned and not self._rules(0, _RESCALE)

    @property
    def _inverted(self) -> bool:
        shape = self._header.get("PresentationLUTShape")
        return shape == "INVERSE" if shape else self._header.PhotometricInterpretation == "MONOCHROME1"

    def _in_window(self, values: np.ndarray, index: int) -> np.ndarray:
        """Intensities (H, W) as uint8: by the user's window, else the file's VOI LUT or window, else percentiles."""
        if self.reading.window is not None:
            return to_bytes(values, *black_and_white(values, self.reading.window))
        rules, pixels = self._window(index), self._pydicom.pixels
        if "VOILUTSequence" in rules:
            return to_bytes(pixels.apply_voi(values, rules), 0, 2 ** int(rules.VOILUTSequence[0].LUTDescriptor[2]) - 1)
        if rules:
            return (pixels.apply_windowing(values, rules) + 0.5).astype(np.uint8)
        if self._is_plain:
            return to_bytes(values, 0, 2 ** int(self._header.BitsStored) - 1)
        return to_bytes(values, *self._range)

    def _window(self, index: int) -> "Dataset":
        """The VOI LUT or window of a frame, with 8 bits as the range to map to; empty where it has none that can be used."""
        rules = self._rules(index, _WINDOW)
        widths = rules.get("WindowWidth", 0)
        width = widths[0] if isinstance(widths, Sequence) else widths
        if "VOILUTSequence" not in rules and ("WindowCenter" not in rules or float(width) < 1):
            return self._pydicom.Dataset()
        rules.BitsStored, rules.PixelRepresentation, rules.PhotometricInterpretation = 8, 0, "MONOCHROME2"
        return rules

    @cached_property
    def _range(self) -> tuple[float, float]:
        """Percentiles of the intensities of the whole file, without its padding (PS3.3 C.7.5.1.1.2)."""
        stored = self._stored(None)
        values = self._pydicom.pixels.apply_modality_lut(stored, self._rules(0, _RESCALE))
        padding = self._header.get("PixelPaddingValue")
        return black_and_white(values if padding is None else values[stored != padding])

    def _stored(self, index: int | None) -> np.ndarray:
        """The stored values, (H, W) or (H, W, 3) in RGB; of all frames, (frames, H, W), without an index."""
        with _discreet(self.path, "decoded"):
            stored = self._pydicom.pixels.pixel_array(self.path, index=index)
        return stored

    def _rules(self, index: int, keys: tuple[str, ...]) -> "Dataset":
        """Those of the elements `keys` that hold for a frame, from wherever the file keeps them, for pydicom's functions."""
        rules = self._pydicom.Dataset()
        rules.file_meta = self._header.file_meta
        for place in self._places(index):
            for key in keys:
                if place.get(key) not in (None, ""):
                    rules.add(place[key])
        return rules

    def _places(self, index: int) -> Iterator["Dataset"]:
        """The header, then the functional groups of an enhanced multi-frame image (PS3.3 C.7.6.16): all frames', this frame's."""
        yield self._header
        shared = self._header.get("SharedFunctionalGroupsSequence") or [None]
        own = self._header.get("PerFrameFunctionalGroupsSequence") or []
        for group in (shared[0], own[index] if index < len(own) else None):
            for key in _GROUPS if group is not None else ():
                yield from group.get(key) or ()

    def _spacing(self) -> tuple[float, float] | None:
        """The distances between rows and between columns in the patient, in millimetres; None where the file has none."""
        found = [place.PixelSpacing for place in self._places(0) if place.get("PixelSpacing")]
        return (float(found[-1][0]), float(found[-1][1])) if found else None


def _coloured(colours: np.ndarray, bits: int) -> Raster:
    return Raster(colours[..., :3] if bits <= 8 else to_bytes(colours[..., :3], 0, 2**bits - 1), 8)


@contextmanager
def _discreet(path: Path, verb: str) -> Iterator[None]:
    """Errors and warnings of pydicom, which may quote the header, as a DataError that names the file and the kind of error."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except DataError:
        raise
    except Exception as error:
        what = f"The DICOM file cannot be {verb} ({type(error).__name__})."
        hint = _DECODERS if isinstance(error, (RuntimeError, NotImplementedError)) else "export the file again."
        raise DataError(what, where=path, hint=hint) from None
