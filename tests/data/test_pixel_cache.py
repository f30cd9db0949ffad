import os

import numpy as np
import pytest

from vlsm_helpers.data import pixel_cache as pixels
from vlsm_helpers.data.pixel_cache import square_image, square_mask, squares
from vlsm_helpers.data.samples import load_split
from vlsm_helpers.errors import DataError


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VLSM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "pixels"


def test_masks_are_made_square_by_majority():
    mask = np.zeros((8, 8), bool)
    mask[:, :3] = True  # three of four columns of the left half: the left pixel is foreground, the right is not
    np.testing.assert_array_equal(square_mask(mask, 2), [[1, 0], [1, 0]])


def test_images_are_antialiased():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 200
    assert abs(int(square_image(stripes, 8)[4, 4, 0]) - 100) <= 8


def test_pixels_are_read_once(toy, monkeypatch):
    samples = load_split("toy", "train")
    images, masks = squares(samples, 16)
    assert images.shape == (12, 16, 16, 3)
    assert masks.shape == (12, 16, 16)
    assert set(np.unique(masks)) == {0, 1}
    monkeypatch.setattr(pixels, "read_image", None)  # a second reading would fail
    again, _ = squares(samples, 16)
    np.testing.assert_array_equal(images, again)
    assert isinstance(again, np.memmap)


def test_a_changed_file_is_read_again(toy):
    samples = load_split("toy", "val")
    before = squares(samples, 16)[1].copy()
    samples[0].mask.write_bytes(samples[1].mask.read_bytes())
    os.utime(samples[0].mask, (1, 1))
    after = squares(samples, 16)[1]
    np.testing.assert_array_equal(after[0], before[1])


def test_every_broken_file_is_named_and_nothing_half_written_is_kept(toy, own_cache):
    samples = load_split("toy", "train")
    samples[2].image.write_bytes(samples[2].image.read_bytes()[:200])
    samples[5].mask.write_text("not a mask")
    with pytest.raises(DataError, match=r"2 files.*\n.*train_2.png.*\n.*train_5.png"):
        squares(samples, 16)
    assert list(own_cache.iterdir()) == []


def test_a_single_broken_file_keeps_its_own_message(toy):
    samples = load_split("toy", "val")
    samples[1].mask.write_text("not a mask")
    with pytest.raises(DataError, match="no mask that can be read") as raised:
        squares(samples, 16)
    assert raised.value.where == samples[1].mask
