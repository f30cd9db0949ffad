"""What several modules of tests/data share."""

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def put(tmp_path):
    """Write small files of these names; returns the folders of images and of masks."""

    def write(images, masks=(), ending=".png"):
        for folder, names in (("images", images), ("masks", masks)):
            for name in names:
                path = tmp_path / folder / name
                path = path if path.suffix else path.with_suffix(ending)
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.zeros((2, 2), np.uint8)).save(path, path.suffix[1:].replace("jpg", "jpeg"))
        return tmp_path / "images", tmp_path / "masks"

    return write
