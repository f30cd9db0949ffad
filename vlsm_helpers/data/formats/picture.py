"""Ordinary pictures, one frame each, and TIFF files, one frame per page."""

from pathlib import Path

from vlsm_helpers.data.decode import decode
from vlsm_helpers.data.formats import Reading, Source
from vlsm_helpers.data.raster import Raster
from vlsm_helpers.data.tiff import page_count


class Picture(Source):
    """A file of one picture."""

    plain = True

    def image(self, index: int) -> Raster:
        """The picture, as `decode` gives it."""
        return decode(self.path)

    def label(self, index: int) -> Raster:
        """The mask, as `decode` gives it."""
        return decode(self.path, "mask")


class Pages(Source):
    """A TIFF file; `plain` where it has one page. Raises DataError for pages that are channels of one picture."""

    def __init__(self, path: Path, reading: Reading):
        super().__init__(path, reading)
        self.count = page_count(path)
        self.plain = self.count == 1

    def image(self, index: int) -> Raster:
        """The page, as `decode` gives it."""
        return decode(self.path, page=index)

    def label(self, index: int) -> Raster:
        """The page of a mask, as `decode` gives it."""
        return decode(self.path, "mask", page=index)
