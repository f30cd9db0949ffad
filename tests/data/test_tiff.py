"""TIFF files whose tags and samples disagree, and those of several pages."""

import struct

import numpy as np
import pytest
import tifffile
from PIL import Image, UnidentifiedImageError

from tests import archives
from vlsm_helpers.data.images import read_image
from vlsm_helpers.errors import DataError

PICTURE = archives.picture(0)


def tiff(path, pixels, **options):
    tifffile.imwrite(path, pixels, metadata=None, **options)
    return path


def test_the_tiffs_of_clinicdb(tmp_path):
    (tmp_path / "1.tif").write_bytes(archives.clinicdb_tiff(PICTURE))
    with pytest.raises(UnidentifiedImageError):
        Image.open(tmp_path / "1.tif")
    assert np.array_equal(read_image(tmp_path / "1.tif"), PICTURE)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_turned_tiff_of_colours_called_grey(orientation, tmp_path):
    content = bytearray(archives.clinicdb_tiff(PICTURE))
    at = content.index(struct.pack("<HHIH", 274, 3, 1, 1))
    content[at + 8] = orientation
    (tmp_path / "1.tif").write_bytes(content)
    turned = {1: PICTURE, 3: PICTURE[::-1, ::-1], 6: np.rot90(PICTURE, -1), 8: np.rot90(PICTURE)}[orientation]
    assert np.array_equal(read_image(tmp_path / "1.tif"), turned)


def test_colours_called_grey_in_a_compression_that_only_pillow_decodes(tmp_path):
    archives.save(PICTURE, tmp_path / "a.tif", compression="tiff_lzw")
    content = bytearray((tmp_path / "a.tif").read_bytes())
    at = content.index(struct.pack("<HHIH", 262, 3, 1, 2))
    content[at + 8] = 1
    (tmp_path / "a.tif").write_bytes(content)
    assert np.array_equal(read_image(tmp_path / "a.tif"), PICTURE)


DEEP = PICTURE.astype(np.uint16) * 257


@pytest.mark.parametrize(
    ("pixels", "options"),
    [
        (PICTURE, {"photometric": "rgb", "planarconfig": "contig"}),
        (PICTURE.transpose(2, 0, 1), {"photometric": "rgb", "planarconfig": "separate"}),
        (DEEP, {"photometric": "rgb"}),
        (DEEP, {"photometric": "rgb", "compression": "zlib", "byteorder": ">"}),
        (DEEP.transpose(2, 0, 1), {"photometric": "rgb", "planarconfig": "separate"}),
        (np.dstack([DEEP, DEEP[..., 0]]), {"photometric": "rgb", "extrasamples": ["unassalpha"]}),
        (np.dstack([PICTURE, PICTURE[..., 0]]), {"photometric": "rgb", "extrasamples": ["unspecified"]}),
        (PICTURE, {"photometric": "rgb", "bigtiff": True}),
    ],
)
def test_tiffs_that_are_read(pixels, options, tmp_path):
    assert np.array_equal(read_image(tiff(tmp_path / "a.tif", np.ascontiguousarray(pixels), **options)), PICTURE)


FIVE = np.dstack([PICTURE, PICTURE[..., :2]])


@pytest.mark.parametrize(
    ("pixels", "options", "found"),
    [
        (FIVE[..., :2], {"photometric": "minisblack", "planarconfig": "contig"}, "2 samples"),
        (FIVE[..., :4], {"photometric": "minisblack", "planarconfig": "contig"}, "4 samples"),
        (FIVE, {"photometric": "minisblack", "planarconfig": "contig"}, "5 samples"),
        (FIVE, {"photometric": "rgb", "planarconfig": "contig"}, "5 samples"),
        (FIVE[..., :2].transpose(2, 0, 1), {"photometric": "minisblack", "planarconfig": "separate"}, "2 samples"),
        (PICTURE, {"photometric": "miniswhite", "planarconfig": "contig"}, "MINISWHITE"),
        (DEEP[..., 0], {"photometric": "miniswhite"}, "MINISWHITE"),
        (PICTURE[..., 0].astype(np.int8), {"photometric": "minisblack"}, "8 bits"),
        (PICTURE[..., 0].astype(np.float32), {"photometric": "minisblack"}, "float32"),
        (PICTURE[..., 0].astype(np.uint32) * 70000, {"photometric": "minisblack"}, "int32"),
    ],
)
def test_tiffs_that_are_refused_with_what_was_found(pixels, options, found, tmp_path):
    path = tiff(tmp_path / "a.tif", np.ascontiguousarray(pixels), **options)
    with pytest.raises(DataError, match=found) as caught:
        read_image(path)
    assert caught.value.where == path
    assert caught.value.hint


@pytest.mark.parametrize("options", [{"truncate": True}, {"imagej": True}])
def test_stacks_are_refused_even_if_they_have_one_directory(options, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.stack([PICTURE[..., 0]] * 5), **options)
    with pytest.raises(DataError, match="5 pages"):
        read_image(tmp_path / "a.tif")


def test_a_thumbnail_beside_the_picture_is_no_page(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(PICTURE, photometric="rgb")
        file.write(PICTURE[::2, ::2], photometric="rgb", subfiletype=1)
    assert np.array_equal(read_image(tmp_path / "a.tif"), PICTURE)
