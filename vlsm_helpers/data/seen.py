"""What `check` and `adopt` keep of each image and mask that they decode, so that none is decoded twice."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from vlsm_helpers.data.alike import thumbnail

_EDGES = 6  # rows or columns where a mask must change before the distances between them say how fine it was drawn


@dataclass(frozen=True)
class SeenImage:
    """What is kept of an image: its file, its size, its thumbnail, how many levels of grey it has, the EXIF turn applied."""

    file: str
    width: int
    height: int
    thumbnail: np.ndarray  # float16: half the memory, and correlations differ by less than 0.0001
    greys: int
    brightest: int
    turn: int = 1

    @classmethod
    def of(cls, file: str, image: np.ndarray, turn: int = 1) -> "SeenImage":
        """What is kept of pixels uint8 (H, W, 3)."""
        levels = np.flatnonzero(Image.fromarray(image).convert("L").histogram())
        look = thumbnail(image).astype(np.float16)
        return cls(file, image.shape[1], image.shape[0], look, len(levels), int(levels[-1]), turn)


@dataclass(frozen=True)
class SeenMask:
    """What is kept of a mask: file, size, share of foreground, the box around it (right and bottom exclusive), whether all four
    corners are foreground, the EXIF turn applied, and the side of the squares in pixels that it is made of (`grain`)."""

    file: str
    width: int
    height: int
    foreground: float
    box: tuple[int, int, int, int] | None
    corners: bool
    turn: int = 1
    grain: int = 1

    @classmethod
    def of(cls, file: str, mask: np.ndarray, turn: int = 1) -> "SeenMask":
        """What is kept of a mask, bool (H, W)."""
        box, corners = Image.fromarray(mask).getbbox(), bool(mask[[0, 0, -1, -1], [0, -1, 0, -1]].all())
        return cls(file, mask.shape[1], mask.shape[0], float(mask.mean()), box, corners, turn, _grain(mask))

    @property
    def area(self) -> int:
        """The number of foreground pixels."""
        return round(self.foreground * self.width * self.height)

    @property
    def is_box(self) -> bool:
        """Whether the foreground is a filled rectangle."""
        left, top, right, bottom = self.box or (0, 0, 0, 0)
        return self.area > 0 and self.area == (right - left) * (bottom - top)

    @property
    def touches_borders(self) -> bool:
        """Whether the foreground reaches all four borders."""
        return self.box == (0, 0, self.width, self.height)


def _grain(mask: np.ndarray) -> int:
    """The side of the largest squares that a mask can be made of: the greatest common divisor of where its rows and columns
    change; 1 for one that changes too rarely to tell."""
    rows = 1 + np.flatnonzero((mask[1:] != mask[:-1]).any(axis=1))
    columns = 1 + np.flatnonzero((mask[:, 1:] != mask[:, :-1]).any(axis=0))
    if min(len(rows), len(columns)) < _EDGES:
        return 1
    return int(np.gcd(np.gcd.reduce(rows), np.gcd.reduce(columns)))
