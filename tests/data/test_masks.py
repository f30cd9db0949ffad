"""Any lesion in any way that a mask is written: read back as it was, or refused; never something else."""

import io

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests import archives
from vlsm_helpers.data import masks
from vlsm_helpers.data.masks import find_foreground, parse, read_mask
from vlsm_helpers.errors import DataError, SettingsError

CASES = settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@st.composite
def lesions(draw):
    """Masks, bool (H, W), of 20 pixels and more: discs, boxes, stripes and specks, which may touch the border."""
    height, width = draw(st.integers(12, 60)), draw(st.integers(12, 60))
    rows, columns = np.mgrid[:height, :width]
    mask = np.zeros((height, width), bool)
    for _ in range(draw(st.integers(1, 3))):
        row, column, size = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1)), draw(st.integers(1, 14))
        kind = draw(st.sampled_from(["disc", "box", "stripe", "specks"]))
        mask |= {
            "disc": (rows - row) ** 2 + (columns - column) ** 2 <= size**2,
            "box": (abs(rows - row) <= size) & (abs(columns - column) <= size // 2),
            "stripe": abs(rows - columns - row + column) < 1 + size // 7,
            "specks": np.random.default_rng(size).random((height, width)) < 0.1,
        }[kind]
    mask[0, :20] |= mask.sum() < 20
    mask[1, :20] |= mask.sum() < 20
    return mask


def grey(mask, high, kind=np.uint8, low=0):
    return Image.fromarray(np.where(mask, high, low).astype(kind))


def colour(mask, ink, paper=(0, 0, 0)):
    return Image.fromarray(np.where(mask[..., None], ink, paper).astype(np.uint8))


def palette(mask, number, colours):
    image = Image.fromarray(mask.astype(np.uint8) * number, "P")
    image.putpalette([one for entry in colours for one in entry])
    return image


def layer(mask, mode, ink):
    plain = Image.new("L", mask.shape[::-1], ink)
    return Image.merge(mode, [plain] * (len(mode) - 1) + [grey(mask, 255)])


VOC = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128)]

# Each writes a mask as an image; what Pillow then saves it to stands below.
WAYS = {
    "bilevel": lambda mask: Image.fromarray(mask),
    **{
        f"{low} and {high}": (lambda mask, low=low, high=high: grey(mask, high, low=low))
        for low, high in [(0, 255), (0, 1), (0, 128), (0, 254), (1, 254), (16, 235)]
    },
    **{
        f"16 bits, {high}": (lambda mask, high=high: grey(mask, high, np.uint16))
        for high in (1, 255, 1023, 4095, 32768, 65535)
    },
    **{f"32 bits, {high}": (lambda mask, high=high: grey(mask, high, np.int32)) for high in (1, 255)},
    "RGB white": lambda mask: colour(mask, (255, 255, 255)),
    "RGB 1": lambda mask: colour(mask, (1, 1, 1)),
    **{f"RGB {ink}": (lambda mask, ink=ink: colour(mask, ink)) for ink in [(255, 0, 0), (0, 255, 0), (0, 0, 255)]},
    **{f"RGB {ink}": (lambda mask, ink=ink: colour(mask, ink)) for ink in [(0, 255, 255), (0, 128, 0), (0, 0, 1)]},
    **{f"palette {one}": (lambda mask, one=one: palette(mask, one, VOC)) for one in (1, 2, 3, 4)},
    "palette of greys": lambda mask: palette(mask, 1, [(0, 0, 0), (255, 255, 255)]),
    **{
        f"{mode} ink {ink}": (lambda mask, m=mode, i=ink: layer(mask, m, i))
        for mode in ("LA", "RGBA")
        for ink in (0, 255)
    },
    "RGBA opaque": lambda mask: grey(mask, 255).convert("RGBA"),
    "LA opaque": lambda mask: grey(mask, 255).convert("LA"),
    "RGBA, white on transparent black": lambda mask: Image.merge("RGBA", [grey(mask, 255)] * 4),
}
FILES = {
    "png": ("PNG", {}),
    "tif": ("TIFF", {}),
    "tif lzw": ("TIFF", {"compression": "tiff_lzw"}),
    "tif deflate": ("TIFF", {"compression": "tiff_adobe_deflate"}),
    "tif group4": ("TIFF", {"compression": "group4"}),
    "tif packbits": ("TIFF", {"compression": "packbits"}),
    "bmp": ("BMP", {}),
    "gif": ("GIF", {}),
    "webp": ("WEBP", {"lossless": True, "exact": True}),
    "pnm": ("PPM", {}),
    "tga": ("TGA", {"compression": "tga_rle"}),
    "jp2": ("JPEG2000", {}),
}


def write(image, file, path):
    """Whether the format takes such an image."""
    form, options = FILES[file]
    try:
        image.save(path, form, **options)
    except (OSError, ValueError, KeyError):
        return False
    return True


def outcome(path):
    """The mask, or why it was refused, which names the file."""
    try:
        return read_mask(path), None
    except DataError as error:
        return None, error if error.where == path else f"{error} names another file"


@CASES
@given(mask=lesions(), way=st.sampled_from(sorted(WAYS)), file=st.sampled_from(sorted(FILES)))
def test_a_lesion_is_read_back_or_refused(mask, way, file, tmp_path):
    assume(not (mask.all() and way.endswith("ink 0")))  # opaque black everywhere: see the next test
    image = WAYS[way](mask)
    if "A" in image.mode and file in ("gif", "pnm"):  # Pillow writes no alpha to these
        return
    if not write(image, file, tmp_path / "m"):
        return
    found, refused = outcome(tmp_path / "m")
    if refused:
        assert file[:3] not in ("png", "tif"), f"{way}: {refused}"
    else:
        np.testing.assert_array_equal(found, mask)


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_opaque_black_everywhere_is_an_empty_mask(mode, tmp_path):
    """As most programs write it; a lesion drawn in black that leaves no pixel of the image out would look the same."""
    assert write(layer(np.ones((12, 12), bool), mode, 0), "png", tmp_path / "m")
    assert not read_mask(tmp_path / "m").any()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("file", ["png", "tif"])
def test_png_and_tiff_of_each_way(way, file, tmp_path):
    mask = archives.rectangle(8, 8, 24, 16)
    if write(WAYS[way](mask), file, tmp_path / "m"):
        np.testing.assert_array_equal(read_mask(tmp_path / "m"), mask)
    else:
        assert (way[:8], file) in {("palette ", "tif"), ("32 bits,", "png")}


@CASES
@given(
    mask=lesions(),
    bits=st.sampled_from([1, 8, 16]),
    photometric=st.sampled_from(["minisblack", "miniswhite", "rgb"]),
    samples=st.integers(1, 5),
    planar=st.sampled_from(["contig", "separate"]),
    compression=st.sampled_from([None, "zlib"]),
    extra=st.sampled_from([None, "unspecified", "unassalpha", "assocalpha"]),
    bigtiff=st.booleans(),
)
def test_tiffs_of_any_samples(mask, bits, photometric, samples, planar, compression, extra, bigtiff, tmp_path):
    """Grey, colours called grey, alpha with and without a name, planes: the lesion stands in all samples but alpha."""
    top = 2**bits - 1
    values = np.where(mask, top, 0).astype(np.uint16 if bits == 16 else np.uint8)
    pixels = np.stack([values] * samples, axis=0 if planar == "separate" else 2) if samples > 1 else values
    options = {"planarconfig": planar} if samples > 1 else {}
    if extra and samples in (2, 4, 5):
        options["extrasamples"] = [extra] * (samples - (3 if photometric == "rgb" else 1))
    try:
        tifffile.imwrite(
            tmp_path / "m", pixels if bits > 1 else pixels.astype(bool), photometric=photometric, metadata=None,
            compression=compression, bigtiff=bigtiff, **options,
        )  # fmt: skip
    except (ValueError, TypeError, RuntimeError):
        return
    found, refused = outcome(tmp_path / "m")
    if refused:
        assert samples > 1 or photometric != "minisblack", refused
    else:
        np.testing.assert_array_equal(found, mask if photometric != "miniswhite" else ~mask)


@CASES
@given(
    mask=lesions(),
    values=st.tuples(st.integers(1, 255), st.integers(1, 255)).filter(lambda pair: pair[0] != pair[1]),
    cut=st.floats(0.1, 0.9),
    deep=st.booleans(),
)
@example(mask=np.ones((12, 12), bool), values=(1, 128), cut=0.5, deep=False)
@example(mask=np.eye(30, dtype=bool), values=(1, 255), cut=0.03, deep=False)
@example(mask=np.eye(30, dtype=bool), values=(127, 255), cut=0.5, deep=True)
def test_two_classes_are_refused(mask, values, cut, deep, tmp_path):
    """One part of the lesion has one value, the rest another: a class beside another, or beside a void."""
    place = np.flatnonzero(mask)
    numbers = np.zeros(mask.shape, np.uint16 if deep else np.uint8)
    numbers.flat[place] = values[0]
    numbers.flat[place[: max(1, int(cut * len(place)))]] = values[1]
    Image.fromarray(numbers).save(tmp_path / "m.png")
    assume((numbers == 0).any() or abs(sum(values) - 255) > 4)  # 1 and 254 may be black and white
    if not deep and min(values) >= 250:  # nobody's classes: two whites
        assert np.array_equal(read_mask(tmp_path / "m.png"), mask)
        return
    with pytest.raises(DataError) as caught:
        read_mask(tmp_path / "m.png")
    for value in values:
        assert f"{value} ({(numbers == value).sum()} pixels)" in caught.value.what
    assert "--foreground" in caught.value.hint
    for value in values:
        np.testing.assert_array_equal(read_mask(tmp_path / "m.png", str(value)), numbers == value)
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png", f"{values[0]},{values[1]}"), mask)
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png", "any"), mask)


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


@CASES
@given(mask=lesions(), quality=st.integers(60, 95), factor=st.integers(3, 8))
def test_grey_jpeg_masks(mask, quality, factor, tmp_path):
    """Lesions of JPEG masks are not single pixels; what is read differs at most along the edge."""
    large = np.kron(mask, np.ones((factor, factor), bool))
    archives.save(large, tmp_path / "m.jpg", quality=quality)
    try:
        found = read_mask(tmp_path / "m.jpg")
    except DataError:
        return
    assert (found != large).sum() <= 0.03 * large.sum()


@pytest.mark.parametrize(("level", "tint", "quality"), [(255, 0, 75), (240, 15, 90)])
def test_edges_and_a_slight_tint_of_a_jpeg_are_forgiven(level, tint, quality, tmp_path):
    mask = np.zeros((200, 200), bool)
    mask[53:140, 61:150] = True
    pixels = np.stack([mask * level, mask * level, mask * level + tint], axis=2).astype(np.uint8)
    np.testing.assert_array_equal(read_mask(archives.save(pixels, tmp_path / "m.jpg", quality=quality)), mask)


def disc(size, radius):
    rows, columns = np.mgrid[:size, :size] - size / 2 + 0.5
    return rows**2 + columns**2 < radius**2


@pytest.mark.parametrize("quality", [95, 75, 50, 30, 10, 5])
@pytest.mark.parametrize(("core", "ring"), [(6, 10), (3, 6), (20, 40)])
@pytest.mark.parametrize("value", [60, 100, 127, 170])
def test_grey_classes_of_a_jpeg_are_refused(quality, core, ring, value, tmp_path):
    values = np.where(disc(120, core), 255, np.where(disc(120, ring), value, 0)).astype(np.uint8)
    Image.fromarray(values).save(tmp_path / "m.jpg", quality=quality)
    with pytest.raises(DataError):
        read_mask(tmp_path / "m.jpg")


@pytest.mark.parametrize("value", [10, 20, 40, 100])
def test_dark_classes_of_a_jpeg_are_no_empty_mask(value, tmp_path):
    archives.save((disc(120, 30) * value).astype(np.uint8), tmp_path / "m.jpg")
    with pytest.raises(DataError):
        read_mask(tmp_path / "m.jpg")


@pytest.mark.parametrize("radius", [8, 20, 50])
@pytest.mark.parametrize("method", ["BOX", "BILINEAR", "BICUBIC", "LANCZOS"])
@pytest.mark.parametrize("sizes", [(480, 120), (480, 200), (60, 120), (100, 150)])
def test_smooth_edges_are_forgiven(radius, method, sizes, tmp_path):
    """Masks that were resized: read as the bright half, or refused where the edge is too wide."""
    large = Image.fromarray(np.uint8(disc(sizes[0], radius * sizes[0] / 120)) * 255)
    small = large.resize((sizes[1],) * 2, Image.Resampling[method])
    small.save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png"), np.asarray(small) >= 128)


def test_probabilities_are_no_mask(tmp_path):
    rows, columns = np.mgrid[:80, :80] - 40
    values = 255 / (1 + np.exp((np.hypot(rows, columns) - 20) / 5))
    Image.fromarray(values.astype(np.uint8)).save(tmp_path / "m.png")
    with pytest.raises(DataError):
        read_mask(tmp_path / "m.png")


@pytest.mark.parametrize(
    "way", ["bilevel", "0 and 255", "RGB white", "LA ink 0", "LA ink 255", "RGBA ink 0", "RGBA ink 255"]
)
def test_a_mask_without_a_lesion_is_empty(way, tmp_path):
    WAYS[way](np.zeros((24, 32), bool)).save(tmp_path / "m.png")
    read = read_mask(tmp_path / "m.png")
    assert read.shape == (24, 32)
    assert not read.any()


def test_a_full_mask(tmp_path):
    archives.save(np.ones((24, 32), bool), tmp_path / "m.png")
    assert read_mask(tmp_path / "m.png").all()


def test_alpha_that_contradicts_the_colours_is_refused(tmp_path):
    mask, other = archives.rectangle(8, 8, 24, 16), archives.rectangle(0, 0, 8, 8)
    Image.merge("LA", [grey(mask, 255), grey(other, 255)]).save(tmp_path / "m.png")
    with pytest.raises(DataError, match="alpha"):
        read_mask(tmp_path / "m.png")


def test_a_transparent_colour_of_a_png(tmp_path):
    mask = archives.rectangle(8, 8, 24, 16)
    grey(mask, 255).save(tmp_path / "black.png", transparency=0)
    np.testing.assert_array_equal(read_mask(tmp_path / "black.png"), mask)
    grey(mask, 255).save(tmp_path / "white.png", transparency=255)
    with pytest.raises(DataError):
        read_mask(tmp_path / "white.png")


@pytest.mark.parametrize(
    ("rule", "red", "green"),
    [("red", 1, 0), ("#ff0000", 1, 0), ("lime", 0, 1), ("green", 0, 1), ("red, green", 1, 1), ("any", 1, 1)],
)
@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_a_colour_counts_on_wish(rule, red, green, ending, tmp_path):
    parts = {"red": archives.rectangle(0, 0, 16, 16), "green": archives.rectangle(16, 8, 32, 24)}
    pixels = np.stack([*parts.values(), np.zeros_like(parts["red"])], axis=2).astype(np.uint8) * 255
    options = {"quality": 95, "subsampling": 0} if ending == "jpg" else {}
    archives.save(pixels, tmp_path / f"m.{ending}", **options)
    expected = (parts["red"] & bool(red)) | (parts["green"] & bool(green))
    np.testing.assert_array_equal(read_mask(tmp_path / f"m.{ending}", rule), expected)


def test_a_palettes_numbers_count_on_wish(tmp_path):
    image = Image.fromarray(np.repeat(np.arange(5, dtype=np.uint8), 8).reshape(5, 8), "P")
    image.putpalette([one for entry in VOC for one in entry])
    image.save(tmp_path / "m.png")
    with pytest.raises(DataError):
        read_mask(tmp_path / "m.png")
    assert read_mask(tmp_path / "m.png", "2").sum(axis=1).tolist() == [0, 0, 8, 0, 0]
    assert read_mask(tmp_path / "m.png", "1,4").sum(axis=1).tolist() == [0, 8, 0, 0, 8]
    assert read_mask(tmp_path / "m.png", "#008000").sum(axis=1).tolist() == [0, 0, 8, 0, 0]


@pytest.mark.parametrize("rule", ["", "redd", "1;2", "-1", "#12", "some"])
def test_a_rule_that_is_none_is_refused(rule):
    with pytest.raises(SettingsError):
        parse(rule)


def test_what_counted_is_told(tmp_path):
    mask = archives.rectangle(8, 8, 24, 16)
    for way, level in {"0 and 1": "1", "16 bits, 65535": "white", "palette 2": "#008000", "LA ink 0": "alpha"}.items():
        WAYS[way](mask).save(tmp_path / "m.png")
        assert find_foreground(tmp_path / "m.png").level == level


def test_a_truncated_mask_is_named(tmp_path):
    buffer = io.BytesIO()
    grey(archives.rectangle(8, 8, 24, 16), 255).save(buffer, "PNG")
    (tmp_path / "m.png").write_bytes(buffer.getvalue()[:-30])
    with pytest.raises(DataError) as caught:
        read_mask(tmp_path / "m.png")
    assert caught.value.where == tmp_path / "m.png"


@given(st.sampled_from([np.uint8, np.uint16]), st.integers(0, 2**32 - 1))
def test_values_and_colours_are_counted_as_numpy_counts_them(kind, seed):
    generator = np.random.default_rng(seed)
    palette = generator.integers(0, np.iinfo(kind).max + 1, (5, 3)).astype(kind)
    colours = palette[generator.integers(0, 5, (7, 6))]
    for found, expected in (
        (masks._colours(colours), np.unique(colours.reshape(-1, 3), axis=0, return_counts=True)),
        (masks._counted(colours[..., 0]), np.unique(colours[..., 0], return_counts=True)),
    ):
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, other)
