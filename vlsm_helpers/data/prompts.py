"""Prompts written from a mask and a few words, in the manner of the MedVLSM benchmark, and the measurements behind them."""

import re
from functools import cache

import numpy as np
from scipy import ndimage
from scipy.spatial import ConvexHull

from vlsm_helpers.errors import DataError

SPECK = 0.05  # components smaller than this share of the largest one are not counted
SMALL, LARGE = 0.08, 0.30  # the benchmark's limits: small up to 8 % of the image, large from 30 %
ROUND, LONG = 1.4, 2.5  # length by breadth: round up to 1.4, elongated from 2.5
SOLID = 0.9  # of its convex hull a shape fills at least so much, or it is irregular
COLOURED = 6  # levels of 255 by which an image's channels differ on average, or it is a grey one
DARK, BRIGHT = 85, 170  # of 255: what a grey image shows below, between and above is dark, grey, bright
NUMBERS = ("one", "two", "three", "four", "five")
PALETTE = {
    "white": (235, 225, 215),
    "pink": (225, 140, 140),
    "red": (165, 50, 45),
    "orange": (205, 115, 60),
    "yellow": (215, 175, 85),
    "tan": (200, 155, 120),
    "brown": (120, 70, 45),
    "black": (35, 25, 25),
    "green": (110, 150, 120),
    "blue": (80, 110, 160),
    "purple": (120, 75, 110),
}
_SIDE = re.compile(r"\b(left|right|top|bottom|upper|lower)\b", re.IGNORECASE)


def ladder(
    image: np.ndarray, mask: np.ndarray, noun: str, kind: str | None = None, modality: str | None = None
) -> dict[str, str | list[str]]:
    """Prompts p0 to p6, each rung saying one thing more about the mask than the one before.

    p0 is empty, p1 the `noun`, then come shape, colour, size, number and place: "one medium pink round polyp, located in
    right of the image". A `kind` ("benign") gives p2 to p6 two texts each, the first with it. `modality` ("breast
    ultrasound") says in p6 what image it is. `image` is uint8 (H, W, 3) or (H, W), `mask` (H, W) of bool or 0 and 1.

    The higher rungs tell a model what only the mask knows, and an empty mask makes p1 to p6 "no polyp", as in the
    benchmark: that leaks the label. Raises DataError for a mask or an image that is not as described.
    """
    mask = _as_mask(mask)
    pixels = _as_image(image, mask)
    if not mask.any():
        return {"p0": ""} | {f"p{rung}": f"no {noun}" for rung in range(1, 7)}
    parts = components(mask)
    words = [shape_word(parts[0]), colour_word(pixels, mask), size_word(parts[0]), number_word(len(parts))]
    places = ", ".join(dict.fromkeys(place_word(part) for part in parts))
    where = f", located in {places} of the {f'{modality} image' if modality else 'image'}"
    plain = _rungs(noun, words, where)
    if kind is None:
        return {"p0": "", "p1": noun} | plain
    named = _rungs(f"{kind} {noun}", words, where)
    return {"p0": "", "p1": noun} | {rung: [named[rung], plain[rung]] for rung in plain}


def _rungs(noun: str, words: list[str], where: str) -> dict[str, str]:
    """p2 to p6: each puts one more of the `words` (shape, colour, size, number) before the noun, p6 says `where`."""
    prompts = {f"p{rung + 1}": " ".join([*reversed(words[:rung]), noun]) for rung in range(1, 5)}
    if words[-1] != "one":
        prompts["p5"] = " ".join([*reversed(words), _plural(noun)])
    return prompts | {"p6": prompts["p5"] + where}


def names_side(prompt: str) -> bool:
    """Whether the prompt names a side: left, right, top, bottom, upper or lower, as whole words in any case.

    A flipped image makes such a prompt wrong.
    """
    return _SIDE.search(prompt) is not None


def components(mask: np.ndarray) -> list[np.ndarray]:
    """The connected parts of a mask, bool (H, W) each, largest first; pixels that touch by a corner are connected.

    Specks, smaller than 5 % of the largest part, are left out. Raises DataError for what is no mask.
    """
    labels, number = ndimage.label(_as_mask(mask), structure=np.ones((3, 3)))
    areas = np.bincount(labels.ravel(), minlength=number + 1)[1:]
    largest_first = np.argsort(-areas, kind="stable")
    return [labels == part + 1 for part in largest_first if areas[part] >= SPECK * areas.max()]


def number_word(number: int) -> str:
    """One to five in letters, "several" for more."""
    return NUMBERS[number - 1] if number <= len(NUMBERS) else "several"


def size_word(mask: np.ndarray) -> str:
    """Small below 8 % of the image's area, large from 30 %, else medium (the benchmark's limits)."""
    share = np.mean(_as_mask(mask))
    return "small" if share < SMALL else "large" if share >= LARGE else "medium"


def place_word(mask: np.ndarray) -> str:
    """Which ninth of the image holds the mask's centre of mass: "top left", "top", ... "center", ... "bottom right".

    Left and right are the picture's, not the patient's. Raises DataError for an empty mask.
    """
    mask = _foreground(mask)
    row, column = ((np.mean(at) + 0.5) / side for at, side in zip(np.nonzero(mask), mask.shape, strict=True))
    names = _third(row, "top", "bottom"), _third(column, "left", "right")
    return " ".join(filter(None, names)) or "center"


def shape_word(mask: np.ndarray) -> str:
    """Round, oval, elongated or irregular, by `aspect` and `solidity`. Raises DataError for an empty mask."""
    if solidity(mask) < SOLID:
        return "irregular"
    length = aspect(mask)
    return "round" if length < ROUND else "oval" if length < LONG else "elongated"


def aspect(mask: np.ndarray) -> float:
    """Length by breadth, from 1, of the ellipse with the mask's second moments. Raises DataError for an empty mask."""
    points = np.argwhere(_foreground(mask)).astype(float)
    spread = np.cov(points, rowvar=False, bias=True) + np.eye(2) / 12  # a pixel is a square, not a point
    small, large = np.linalg.eigvalsh(spread)
    return float(np.sqrt(large / small))


def solidity(mask: np.ndarray) -> float:
    """The share, up to 1, that the mask fills of the pixels in its convex hull. Raises DataError for an empty mask.

    Measured on about 128 pixels a side, which is enough for a word.
    """
    mask = _foreground(mask)
    step = max(1, max(mask.shape) // 128)
    points = np.argwhere(mask[::step, ::step])
    if len(points) < 3 or np.linalg.matrix_rank(points - points[0]) < 2:
        return 1.0  # a straight line of pixels, or less than that
    hull = ConvexHull(points).equations
    box = np.indices(np.ptp(points, axis=0) + 1).reshape(2, -1).T + points.min(axis=0)
    inside = np.all(box @ hull[:, :2].T + hull[:, 2] <= 1e-9, axis=1)
    return float(len(points) / np.sum(inside))


def colour_word(image: np.ndarray, mask: np.ndarray) -> str:
    """The name of the foreground's median colour: the nearest of a small palette, by the distance in CIELAB.

    On a grey image it is dark, grey or bright. `image` is uint8 (H, W, 3) or (H, W). Raises DataError for an empty mask,
    or an image that does not fit it.
    """
    mask = _foreground(mask)
    pixels = _as_image(image, mask)
    colour = np.median(pixels[mask], axis=0)
    if np.mean(_spread(pixels)) < COLOURED:
        level = colour.mean()
        return "dark" if level < DARK else "bright" if level > BRIGHT else "grey"
    lab = _cielab(colour)
    return min(PALETTE, key=lambda name: np.sum((_palette()[name] - lab) ** 2))


def _spread(pixels: np.ndarray) -> np.ndarray:
    """The largest minus the smallest channel (H, W) of an image (H, W, 3). Pairs of channels: `np.ptp` is ten times slower."""
    red, green, blue = np.moveaxis(pixels.astype(float), -1, 0)
    largest, smallest = (extreme(extreme(red, green), blue) for extreme in (np.maximum, np.minimum))
    return largest - smallest


@cache
def _palette() -> dict[str, np.ndarray]:
    """CIELAB of the palette's colours."""
    return {name: _cielab(np.array(colour)) for name, colour in PALETTE.items()}


def _cielab(colour: np.ndarray) -> np.ndarray:
    """CIELAB (L, a, b) of one sRGB colour of 0 to 255."""
    share = colour / 255
    linear = np.where(share > 0.04045, ((share + 0.055) / 1.055) ** 2.4, share / 12.92)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    ratio = to_xyz @ linear / np.array([0.9505, 1.0, 1.089])
    f = np.where(ratio > 0.008856, np.cbrt(ratio), 7.787 * ratio + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def _third(position: float, first: str, last: str) -> str:
    return first if position < 1 / 3 else last if position > 2 / 3 else ""


def _plural(noun: str) -> str:
    if noun.endswith(("ss", "x", "ch", "sh")):
        return noun + "es"
    return noun if noun.endswith("s") else noun + "s"


def _as_mask(mask: np.ndarray) -> np.ndarray:
    mask = np.asarray(mask)
    if mask.ndim != 2 or not mask.size:
        raise DataError(f"A mask of shape {mask.shape} is not 2-D.", hint="give it as (height, width).")
    if mask.dtype != bool and not np.isin(mask, (0, 1)).all():
        what = f"The mask has values from {mask.min()} to {mask.max()}, not just 0 and 1."
        raise DataError(what, hint="give it as bool, such as mask > 127.")
    return mask.astype(bool)


def _foreground(mask: np.ndarray) -> np.ndarray:
    mask = _as_mask(mask)
    if not mask.any():
        what = "The mask is empty: it has no place, shape or colour."
        raise DataError(what, hint="ask only for masks with foreground.")
    return mask


def _as_image(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """RGB (H, W, 3) of an image that fits the mask."""
    image = np.asarray(image)
    if image.ndim == 2:
        image = np.repeat(image[..., None], 3, axis=-1)
    if image.shape != (*mask.shape, 3):
        what = f"The image {image.shape} and its mask {mask.shape} do not fit."
        raise DataError(what, hint="give an RGB or grey image of the mask's size.")
    return image
