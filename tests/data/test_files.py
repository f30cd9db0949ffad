import pytest
from PIL import Image

from tests.data.test_pairing import found
from vlsm_helpers.data.decode import is_image_name
from vlsm_helpers.data.files import image_paths, passed_over
from vlsm_helpers.data.pairing import pairs
from vlsm_helpers.errors import DataError


@pytest.mark.parametrize(
    "name", ["protocol.pdf", "features.h5", "scan.fits", "x.eps", "x.wmf", "c.npy", "DICOMDIR.txt", "a.12"]
)
def test_other_files_are_passed_over(put, name):
    images, masks = put(["a"], ["a"])
    (images / name).write_bytes(b"x")
    assert found(pairs(images, masks)) == {"a": ["a.png"]}
    assert passed_over(images).endswith(f": 1 {name[name.index('.') :]}")


@pytest.mark.parametrize("ending", ["png", "PNG", "jpg", "jpeg", "tif", "tiff", "bmp", "webp", "gif", "jp2", "pgm"])
def test_endings_of_images(ending, tmp_path):
    assert is_image_name(tmp_path / f"a.{ending}")


def test_a_folder_without_images_is_told(tmp_path):
    (tmp_path / "p1").mkdir()
    (tmp_path / "p1" / "scan.npy").touch()
    with pytest.raises(DataError, match="1 .npy"):
        image_paths(tmp_path)


def test_a_video_beside_pictures_is_passed_over_and_told(tmp_path):
    (tmp_path / "clip.mpg").write_bytes(b"x")
    assert [path.name for path in image_paths(tmp_path)] == ["clip.mpg"]
    assert passed_over(tmp_path) == ""
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    assert [path.name for path in image_paths(tmp_path)] == ["a.png"]
    assert passed_over(tmp_path).endswith("1 .mpg")
