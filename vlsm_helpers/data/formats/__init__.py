"""What a file of one or several frames is to the rest of the package, whatever its format; one module per format."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vlsm_helpers.data.raster import Raster
from vlsm_helpers.errors import SettingsError

AXES = ("sagittal", "coronal", "axial")
PERCENTILES = (0.5, 99.5)  # of the intensities of a volume or a file without a window: they become black and white
_SAMPLED = 2_000_000  # intensities at most that percentiles are taken of


@dataclass(frozen=True)
class Reading:
    """How files are turned into 8-bit pictures where the file leaves a choice.

    `window`: center and width, in the file's units (Hounsfield units of CT), which become mid-grey and the range from black to
    white; None uses the window that a DICOM file names, else percentiles of its intensities. `axis`: the direction that volumes
    are cut along. `every`: of files with several frames, each Nth is used.
    """

    window: tuple[float, float] | None = None
    axis: str = "axial"
    every: int = 1

    def __post_init__(self) -> None:
        if self.window is not None and not self.window[1] > 0:
            raise SettingsError(f"The width of the window, {self.window[1]}, is not positive.", hint="such as 40,400.")
        if self.axis not in AXES:
            raise SettingsError(f"There is no axis {self.axis!r}.", hint=f"use one of {', '.join(AXES)}.")
        if self.every < 1:
            raise SettingsError(f"Every {self.every} frames is no step.", hint="give 1 or more.")

    def chosen(self, count: int) -> range:
        """The numbers of the frames that are used of `count`."""
        return range(0, count, self.every)


AS_FILED = Reading()


class Source:
    """An opened file: `count` frames, decoded one at a time.

    `plain`: the file is a picture and nothing else, so that a copy of its bytes is a copy of the picture. `note`: what the user
    should know about how it is read. `identity`: what ids of frames are made from in place of the file's name, which may hold a
    patient's. `patient`: whom the frames belong to; never written as it is. `spacing`: (row, column) in millimetres.
    """

    plain = False
    note = ""
    identity: str | None = None
    patient: str | None = None
    spacing: tuple[float, float] | None = None
    count = 1

    def __init__(self, path: Path, reading: Reading):
        self.path, self.reading = path, reading

    @property
    def indices(self) -> Sequence[int]:
        """The numbers of the frames that are used, from 0."""
        return self.reading.chosen(self.count)

    def image(self, index: int) -> Raster:
        """The frame as a picture. Raises DataError, naming the file."""
        raise NotImplementedError

    def label(self, index: int) -> Raster:
        """The frame's numbers as stored, for masks. Raises DataError, naming the file."""
        return self.image(index)


def as_window(text: str) -> tuple[float, float]:
    """The center and width of a window in words.

    >>> as_window("40,400")
    (40.0, 400.0)
    """
    try:
        center, width = map(float, text.split(","))
    except ValueError:
        hint = "give center and width, such as 40,400."
        raise SettingsError(f"The window {text!r} is not two numbers.", hint=hint) from None
    return center, width


def black_and_white(values: np.ndarray, window: tuple[float, float] | None = None) -> tuple[float, float]:
    """The intensities that become black and white: the window's ends, or percentiles of the finite ones."""
    if window is not None:
        return window[0] - window[1] / 2, window[0] + window[1] / 2
    flat = values.ravel()
    flat = flat[:: max(1, flat.size // _SAMPLED)]
    finite = flat[np.isfinite(flat)]
    low, high = np.percentile(finite, PERCENTILES) if finite.size else (0.0, 0.0)
    return float(low), float(high)


def to_bytes(values: np.ndarray, black: float, white: float) -> np.ndarray:
    """Intensities as uint8: `black` and less is 0, `white` and more is 255; numbers that are none are 0."""
    share = (values - black) / ((white - black) or 1)
    return (np.nan_to_num(share, posinf=1, neginf=0).clip(0, 1) * 255 + 0.5).astype(np.uint8)
