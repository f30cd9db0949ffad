"""Ordinary pictures, one frame each, and TIFF files, one frame a page."""

from vlsm_helpers.data.decode import decode
from vlsm_helpers.data.formats import Source
from vlsm_helpers.data.raster import Raster


class Picture(Source):
    """A file of one picture."""

    plain = True

    def image(self, index: int) -> Raster:
        """The picture, as `decode` gives it."""
        return decode(self.path)

    def label(self, index: int) -> Raster:
        """The mask, as `decode` gives it."""
        return decode(self.path, "mask")
