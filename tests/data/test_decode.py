"""Files that are damaged, too large, of several pages, or that common decoders misread."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from tests import archives
from tests.data.test_tiff import PICTURE
from vlsm_helpers.data.images import read_image, read_mask
from vlsm_helpers.errors import DataError


@pytest.mark.parametrize("read", [read_image, read_mask])
@pytest.mark.parametrize(
    "content", [b"", b"just some text\n" * 40, b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0\x00\x10JFIF"]
)
def test_no_image(read, content, tmp_path):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(DataError) as caught:
        read(tmp_path / "a.png")
    assert "a.png" in str(caught.value)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "WEBP", "BMP"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_truncated(form, share, tmp_path):
    whole = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(whole, form)
    (tmp_path / "a.png").write_bytes(whole.getvalue()[: int(share * len(whole.getvalue()))])
    with pytest.raises(DataError) as caught:
        read_image(tmp_path / "a.png")
    assert "a.png" in str(caught.value)


@pytest.mark.parametrize("seed", range(20))
def test_damaged_files_give_pixels_or_an_error_that_names_them(seed, tmp_path):
    rng = np.random.default_rng(seed)
    content = bytearray(archives.save(PICTURE, tmp_path / f"a.{['png', 'jpg', 'tif', 'webp'][seed % 4]}").read_bytes())
    for place in rng.integers(0, len(content), 8):
        content[place] = rng.integers(256)
    (tmp_path / "damaged").write_bytes(content)
    try:
        outcome = f"damaged but read: {read_image(tmp_path / 'damaged').shape}"
    except DataError as error:
        outcome = str(error)
    assert "damaged" in outcome


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_grey_png_of_few_bits(bits, tmp_path):
    top = 2**bits - 1
    values = np.arange(32, dtype=np.uint8).reshape(4, 8) % (top + 1)
    write_grey_png(tmp_path / "a.png", values, bits)
    assert np.array_equal(read_image(tmp_path / "a.png")[..., 0], values * (255 // top))
    ones = (values % 2).astype(np.uint8)
    write_grey_png(tmp_path / "m.png", ones, bits)
    assert np.array_equal(read_mask(tmp_path / "m.png"), ones == 1)


def write_grey_png(path, values, bits):
    """A grey PNG of 1, 2 or 4 bits, which no common library writes."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    spread = np.unpackbits(values[..., None], axis=2)[..., -bits:]
    rows = b"".join(b"\0" + np.packbits(row).tobytes() for row in spread.reshape(len(values), -1))
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], bits, 0, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts))


@pytest.mark.parametrize("read", [read_image, read_mask])
@pytest.mark.parametrize("form", ["tif", "gif", "png", "webp"])
def test_several_pages_are_refused(read, form, tmp_path):
    pages = [Image.fromarray(archives.picture(seed)) for seed in range(4)]
    pages[0].save(tmp_path / f"a.{form}", save_all=True, append_images=pages[1:])
    with pytest.raises(DataError, match="4 pages") as caught:
        read(tmp_path / f"a.{form}")
    assert "split" in caught.value.hint


def test_photos_of_phones_with_a_preview_are_read(tmp_path):
    frames = [Image.fromarray(PICTURE), Image.fromarray(PICTURE[::2, ::2])]
    frames[0].save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=frames[1:], quality=95)
    assert read_image(tmp_path / "a.jpg").shape == PICTURE.shape


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_too_many_pixels_are_told_apart_from_damage(ending, tmp_path, monkeypatch):
    Image.new("1", (1400, 1400)).save(tmp_path / f"slide.{ending}")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 900_000)  # Pillow's limit, of which it allows twice as much, by 100
    with pytest.raises(DataError, match="1960000") as caught:
        read_image(tmp_path / f"slide.{ending}")
    assert "tiles" in caught.value.hint


def palette_bmp(indices, palette, bits):
    """A BMP file, byte by byte (BITMAPINFOHEADER, rows from the bottom up, each filled up to four bytes)."""
    height, width = indices.shape
    rows = []
    for row in indices[::-1].astype(np.uint8):
        if bits < 8:
            row = np.packbits(np.unpackbits(row[:, None], axis=1)[:, -bits:].ravel())
        rows.append(row.tobytes() + bytes(-len(row) % 4))
    data, colours = b"".join(rows), b"".join(bytes((*colour[::-1], 0)) for colour in palette)
    start = 54 + len(colours)
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, 0, len(data), 2835, 2835, len(palette), 0)
    return b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start) + head + colours + data


@pytest.mark.parametrize("bits", [1, 4, 8])
@pytest.mark.parametrize(
    "palette",
    [
        [(0, 0, 0), (255, 255, 255)],  # Pillow takes it for one bit per pixel, whatever the file says
        [(255, 255, 255), (0, 0, 0)],
        [(0, 0, 0), (255, 0, 0)],
        [(level, level, level) for level in range(16)],  # and these for eight
    ],
)
def test_palettes_of_bmp_files_give_their_colours(palette, bits, tmp_path):
    indices = np.random.default_rng(bits).integers(0, min(len(palette), 2**bits), (7, 13))
    (tmp_path / "a.bmp").write_bytes(palette_bmp(indices, palette[: 2**bits], bits))
    np.testing.assert_array_equal(read_image(tmp_path / "a.bmp"), np.array(palette, np.uint8)[indices])
