import io
import struct
import zlib

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, UnidentifiedImageError

from tests import archives
from vlsm_helpers.data.images import bit_depth, read_image, read_mask
from vlsm_helpers.errors import DataError

PICTURE = archives.picture(0)
MASK = archives.rectangle(8, 8, 24, 16)


@pytest.mark.parametrize(
    ("name", "tolerance"), [("a.png", 0), ("a.tif", 0), ("a.bmp", 0), ("a.webp", 24), ("a.jpg", 24)]
)
def test_formats(name, tolerance, tmp_path):
    image = read_image(archives.save(PICTURE, tmp_path / name))
    assert image.shape == (24, 32, 3)
    assert image.dtype == np.uint8
    assert np.abs(image.astype(int) - PICTURE).mean() <= tolerance


def test_the_contents_count_not_the_ending(tmp_path):
    path = archives.save(PICTURE, tmp_path / "a.png").rename(tmp_path / "a.jpg")
    assert np.array_equal(read_image(path), PICTURE)


@pytest.mark.parametrize("mode", ["L", "LA", "1", "P", "RGBA", "I;16"])
def test_grey_palette_and_transparent_images(mode, tmp_path):
    grey = PICTURE[..., 0]
    if mode == "I;16":
        Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "a.png")
        expected = np.stack([grey] * 3, axis=2)
    else:
        source = Image.fromarray(PICTURE).convert(mode)
        source.save(tmp_path / "a.png")
        expected = np.asarray(source.convert("RGB"))
    assert np.array_equal(read_image(tmp_path / "a.png"), expected)


def test_transparent_pixels_keep_their_colour(tmp_path):
    alpha = np.full((24, 32, 1), 7, np.uint8)
    archives.save(np.concatenate([PICTURE, alpha], axis=2), tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png"), PICTURE)


def test_dark_16_bit_images_stay_dark(tmp_path):
    values = np.array([[0, 256], [32768, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png")[..., 0].tolist() == [[0, 1], [128, 255]]


def test_cmyk_jpeg(tmp_path):
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=100)
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - (255, 0, 0)).max() < 8


@pytest.mark.parametrize(
    ("orientation", "upright"), [(1, PICTURE), (3, PICTURE[::-1, ::-1]), (6, np.rot90(PICTURE, -1))]
)
@pytest.mark.parametrize("ending", ["png", "tif"])
def test_exif_orientation_is_honoured(orientation, upright, ending, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    archives.save(PICTURE, tmp_path / f"a.{ending}", exif=exif)
    assert np.array_equal(read_image(tmp_path / f"a.{ending}"), upright)


def test_exif_orientation_of_a_jpeg(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 8
    archives.save(PICTURE, tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg").shape == (32, 24, 3)


def test_floating_point_images_are_refused(tmp_path):
    Image.fromarray(np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match="float32") as caught:
        read_image(tmp_path / "a.tif")
    assert "a.tif" in str(caught.value)


@pytest.mark.parametrize("read", [read_image, read_mask])
def test_missing(read, tmp_path):
    with pytest.raises(DataError, match="missing") as caught:
        read(tmp_path / "none.png")
    assert "none.png" in str(caught.value)


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


@pytest.mark.parametrize("values", [(0, 1), (0, 255), (0, 254), (1, 254), (16, 235), (0, 128)])
def test_two_levels_are_a_mask(values, tmp_path):
    archives.save(np.where(MASK, values[1], values[0]).astype(np.uint8), tmp_path / "m.png")
    assert np.array_equal(read_mask(tmp_path / "m.png"), MASK)


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "RGBA", "P"])
def test_modes_of_a_mask(mode, tmp_path):
    Image.fromarray(MASK).convert(mode).save(tmp_path / "m.png")
    read = read_mask(tmp_path / "m.png")
    assert read.dtype == bool
    assert np.array_equal(read, MASK)


@pytest.mark.parametrize("high", [1, 255, 1023, 4095, 32768, 65535])
def test_16_bit_masks(high, tmp_path):
    Image.fromarray(np.where(MASK, high, 0).astype(np.uint16)).save(tmp_path / "m.png")
    assert np.array_equal(read_mask(tmp_path / "m.png"), MASK)


def test_a_palette_of_two_greys(tmp_path):
    indexed = Image.fromarray(MASK.astype(np.uint8), "P")
    indexed.putpalette([0, 0, 0, 255, 255, 255])
    indexed.save(tmp_path / "m.png")
    assert np.array_equal(read_mask(tmp_path / "m.png"), MASK)


@pytest.mark.parametrize("mode", ["1", "L", "RGB"])
def test_an_empty_mask(mode, tmp_path):
    Image.new(mode, (32, 24)).save(tmp_path / "m.png")
    read = read_mask(tmp_path / "m.png")
    assert read.shape == (24, 32)
    assert not read.any()


def test_a_full_mask(tmp_path):
    archives.save(np.ones((24, 32), bool), tmp_path / "m.png")
    assert read_mask(tmp_path / "m.png").all()


def test_jpeg_edges_are_forgiven(tmp_path):
    mask = np.zeros((200, 200), bool)
    mask[53:140, 61:150] = True
    read = read_mask(archives.save(mask, tmp_path / "m.jpg", quality=75))
    assert np.array_equal(read, mask)


def test_slightly_coloured_jpeg_grey_is_forgiven(tmp_path):
    mask = np.zeros((200, 200), bool)
    mask[50:140, 60:150] = True
    pixels = np.stack([mask, mask, mask], axis=2).astype(np.uint8) * 240
    pixels[..., 2] += 15
    assert np.array_equal(read_mask(archives.save(pixels, tmp_path / "m.jpg", quality=90)), mask)


def test_three_grey_levels_are_refused(tmp_path):
    values = np.zeros((24, 32), np.uint8)
    values[:, 10:20], values[:, 20:] = 127, 255
    with pytest.raises(DataError, match=r"127 \(240 pixels\), 255 \(288 pixels\)") as caught:
        read_mask(archives.save(values, tmp_path / "grey.png"))
    assert "grey.png" in str(caught.value)
    assert "--foreground" in caught.value.hint


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("largest", [2, 20, 63])
def test_class_numbers_are_refused_not_read_as_an_empty_mask(largest, kind, tmp_path):
    values = np.zeros((24, 32), kind)
    values[4, 4], values[5, 5] = 1, largest
    Image.fromarray(values).save(tmp_path / "classes.png")
    with pytest.raises(DataError, match=f"{largest} \\(1 pixels\\)") as caught:
        read_mask(tmp_path / "classes.png")
    assert "classes.png" in str(caught.value)


@pytest.mark.parametrize("mode", ["RGB", "P"])
def test_two_colours_are_refused(mode, tmp_path):
    pixels = np.zeros((24, 32, 3), np.uint8)
    pixels[8:16, 8:16, 0] = pixels[8:16, 16:24, 1] = 255
    Image.fromarray(pixels).convert(mode).save(tmp_path / "two.png")
    with pytest.raises(DataError, match=r"#ff0000 \(64 pixels\)") as caught:
        read_mask(tmp_path / "two.png")
    assert "two.png" in str(caught.value)


# TIFF files whose tags and samples disagree


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
        (PICTURE[..., 0].astype(np.uint32) * 70000, {"photometric": "minisblack"}, ""),
    ],
)
def test_tiffs_that_are_refused_with_what_was_found(pixels, options, found, tmp_path):
    path = tiff(tmp_path / "a.tif", np.ascontiguousarray(pixels), **options)
    with pytest.raises(DataError, match=found) as caught:
        read_image(path)
    assert caught.value.where == path
    assert caught.value.hint


# Brightness


@given(
    bits=st.integers(9, 16),
    form=st.sampled_from(["grey png", "grey tif", "rgb png", "rgba png", "rgb tif", "int32 tif"]),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_deep_images_are_scaled_by_their_depth_or_refused(bits, form, seed, tmp_path):
    generator = np.random.default_rng(seed)
    channels = {"rgb": 3, "rgba": 4}.get(form.split()[0], 1)
    pixels = generator.integers(0, 2**bits, (12, 16, channels), np.uint16)
    pixels[0, 0] = 2**bits - 1
    path = tmp_path / f"a.{form[-3:]}"
    if channels > 1 and form.endswith("png"):
        cv2.imwrite(str(path), pixels[..., [2, 1, 0, 3][:channels]])
    elif channels > 1:
        tiff(path, pixels, photometric="rgb")
    else:
        Image.fromarray(pixels[..., 0].astype(np.int32 if "int32" in form else np.uint16)).save(path)
    colours = np.repeat(pixels, 3, axis=2) if channels == 1 else pixels[..., :3]
    expected = np.rint(colours * (255 / (2**bits - 1)))
    assert bit_depth([path]) == bits
    assert np.abs(read_image(path, bits) - expected).max() <= 1
    if bits == 16:
        assert np.abs(read_image(path) - expected).max() <= 1
    else:
        with pytest.raises(DataError, match=f"{bits} of"):
            read_image(path)
    if bits > 9:
        with pytest.raises(DataError, match="exceeds"):
            read_image(path, bits - 1)


def test_one_scale_for_all_images_of_a_folder(tmp_path):
    paths = [tmp_path / f"{top}.png" for top in (255, 256, 3000)]
    for path in paths:
        Image.fromarray(np.full((8, 8), int(path.stem), np.uint16)).save(path)
    assert bit_depth(paths) == 12
    assert [int(read_image(path, 12).max()) for path in paths] == [16, 16, 187]


def test_a_folder_of_8_and_12_bits_has_no_common_scale(tmp_path):
    Image.fromarray(np.full((8, 8), 3000, np.uint16)).save(tmp_path / "deep.png")
    archives.save(PICTURE, tmp_path / "a.png")
    with pytest.raises(DataError, match=r"deep\.png"):
        bit_depth([tmp_path / "deep.png", tmp_path / "a.png"])
    assert bit_depth([tmp_path / "a.png"]) == 8


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


# Files of several pictures, and of too many pixels


@pytest.mark.parametrize("read", [read_image, read_mask])
@pytest.mark.parametrize("form", ["tif", "gif", "png", "webp"])
def test_several_pages_are_refused(read, form, tmp_path):
    pages = [Image.fromarray(archives.picture(seed)) for seed in range(4)]
    pages[0].save(tmp_path / f"a.{form}", save_all=True, append_images=pages[1:])
    with pytest.raises(DataError, match="4 pages") as caught:
        read(tmp_path / f"a.{form}")
    assert "split" in caught.value.hint


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
