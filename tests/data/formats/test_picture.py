import numpy as np
import pytest
import tifffile
from PIL import Image

from vlsm_helpers.data.formats import Reading
from vlsm_helpers.data.frames import frames
from vlsm_helpers.errors import DataError


def pixels(count, *shape):
    return np.random.default_rng(0).integers(0, 256, (count, *shape), np.uint8)


@pytest.mark.parametrize("write", ["pages", "stack", "compressed", "deep"])
def test_each_page_is_a_frame(tmp_path, write):
    path, values = tmp_path / "stack.tif", pixels(5, 12, 9)
    if write == "pages":
        Image.fromarray(values[0]).save(path, save_all=True, append_images=list(map(Image.fromarray, values[1:])))
    elif write == "stack":  # ImageJ writes one directory for all pages
        tifffile.imwrite(path, values, imagej=True, metadata={"axes": "ZYX"})
    else:
        values = values.astype(np.uint16) * 257 if write == "deep" else values
        compression = "zlib" if write == "compressed" else None
        tifffile.imwrite(path, values, photometric="minisblack", compression=compression)
    found = frames(tmp_path, Reading(every=2))
    assert [(frame.id, frame.index, frame.group) for frame in found] == [
        (f"stack_{number:04d}", number, "stack") for number in (0, 2, 4)
    ]
    for frame in found:
        np.testing.assert_array_equal(frame.decode().values[..., 0], values[frame.index])


def test_pages_in_colour_and_a_thumbnail(tmp_path):
    values = pixels(3, 10, 8, 3)
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for number, page in enumerate(values):
            file.write(page, photometric="rgb")
            if number == 0:
                file.write(page[::2, ::2], photometric="rgb", subfiletype=1)
    found = frames(tmp_path)
    assert len(found) == 3
    for frame in found:
        np.testing.assert_array_equal(frame.decode().values, values[frame.index])


def test_a_page_of_its_own_is_a_picture(tmp_path):
    Image.fromarray(pixels(1, 8, 8)[0]).save(tmp_path / "a.tif")
    (only,) = frames(tmp_path)
    assert (only.id, only.group, only.plain) == ("a", None, True)


def test_channels_are_no_pages(tmp_path):
    tifffile.imwrite(tmp_path / "cells.tif", pixels(4, 8, 8), imagej=True, metadata={"axes": "CYX"})
    with pytest.raises(DataError, match="cells.tif.*channels"):
        frames(tmp_path)
