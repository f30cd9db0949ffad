"""What `check` and `adopt` keep of each image and mask that they decode, so that none is decoded twice."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from vlsm_helpers.data.alike import thumbnail


@dataclass(frozen=True)
class SeenImage:
    """What is kept of an image: its file, its size, its thumbnail, how many levels of grey it has, the EXIF turn applied."""

    file: str
    width: int
    height: int
    thumbnail: np.ndarray
    greys: int
    brightest: int
    turn: int = 1

    @classmethod
    def of(cls, file: str, image: np.ndarray, turn: int = 1) -> "SeenImage":
        """What is kept of pixels uint8 (H, W, 3)."""
        greys = np.asarray(Image.fromarray(image).convert("L"))
        levels = np.flatnonzero(np.bincount(greys.ravel(), minlength=256))
        return cls(file, image.shape[1], image.shape[0], thumbnail(image), len(levels), int(levels[-1]), turn)


@dataclass(frozen=True)
class SeenMask:
    """What is kept of a mask: file, size, share of foreground, the box around it (right and bottom exclusive), whether all four
    corners are foreground, and the EXIF turn applied."""

    file: str
    width: int
    height: int
    foreground: float
    box: tuple[int, int, int, int] | None
    corners: bool
    turn: int = 1

    @classmethod
    def of(cls, file: str, mask: np.ndarray, turn: int = 1) -> "SeenMask":
        """What is kept of a mask, bool (H, W)."""
        box, corners = Image.fromarray(mask).getbbox(), bool(mask[[0, 0, -1, -1], [0, -1, 0, -1]].all())
        return cls(file, mask.shape[1], mask.shape[0], float(mask.mean()), box, corners, turn)
