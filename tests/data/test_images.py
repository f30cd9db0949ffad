import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests import archives
from vlsm_helpers.data.images import bit_depth, read_image, read_mask
from vlsm_helpers.errors import DataError

PICTURE = archives.picture(0)


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
        tifffile.imwrite(path, pixels, metadata=None, photometric="rgb")
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
