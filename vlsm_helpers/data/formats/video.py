"""Video files, decoded by OpenCV: one frame each, in their order."""

from pathlib import Path

import numpy as np

from vlsm_helpers.data.formats import Reading, Source
from vlsm_helpers.data.raster import Raster
from vlsm_helpers.errors import DataError

ENDINGS = {".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv"}
_HINT = "convert it: `ffmpeg -i FILE frame-%05d.png`, or to MP4 with H.264."


class Video(Source):
    """A video. Its frames are counted by decoding where its header does not tell their number."""

    def __init__(self, path: Path, reading: Reading):
        super().__init__(path, reading)
        self._clip, self._next = None, 0
        self.count = self._counted()

    def image(self, index: int) -> Raster:
        """A frame in RGB, turned as the file says; those in between are skipped, so ask in ascending order."""
        if self._clip is None or index < self._next:
            self._open()
        while self._next < index and self._clip.grab():
            self._next += 1
        found, pixels = self._clip.read()
        if not found:
            what = f"Frame {index} of the video cannot be decoded."
            raise DataError(what, where=self.path, hint=_HINT)
        self._next = index + 1
        return Raster(np.ascontiguousarray(pixels[..., ::-1]), 8, lossy=True)

    def _open(self) -> None:
        import cv2

        self._clip, self._next = cv2.VideoCapture(str(self.path)), 0
        if not self._clip.isOpened():
            self._clip = None
            raise DataError("The file is no video that can be decoded.", where=self.path, hint=_HINT)

    def _counted(self) -> int:
        """The number of frames. A header's number may be too large, as in a recording that was cut off: decoding decides."""
        self._open()
        count = 0
        while self._clip.grab():
            count += 1
        self._clip = None
        if not count:
            raise DataError("The video has no frame that can be decoded.", where=self.path, hint=_HINT)
        return count
