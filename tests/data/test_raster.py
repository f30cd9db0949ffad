import numpy as np
import pytest
from PIL import Image, ImageOps

from vlsm_helpers.data.raster import upright


@pytest.mark.parametrize("turn", range(10))
def test_pixels_are_turned_as_pillow_turns_a_picture(turn):
    pixels = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    picture = Image.fromarray(pixels)
    picture.getexif()[0x112] = turn
    np.testing.assert_array_equal(upright(pixels, turn), np.asarray(ImageOps.exif_transpose(picture)))
