"""Pictures as pixels, drawn with NumPy and Pillow in milliseconds, so that one follows a slider: overlays, maps, the triangle."""

from collections.abc import Sequence
from functools import lru_cache
from io import BytesIO

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_rgb
from PIL import Image, ImageDraw
from scipy import ndimage

from vlsm_helpers.plots.base import PREDICTION, TRUTH

TINT = 0.35  # of the prediction's colour over what is marked
HEIGHT = 0.75**0.5  # of a triangle whose edges are 1
FINER = 2  # times larger than it is shown is a triangle drawn, so that its marks are smooth
MARGIN = 10 * FINER  # pixels around it, for marks on its corners


def overlay(image: np.ndarray, truth: np.ndarray, marked: np.ndarray) -> np.ndarray:
    """An image, uint8 (h, w, 3), at the size of `marked`, bool (S, S), uint8 (S, S, 3): what is marked tinted and outlined in
    orange, the truth, bool (H, W), outlined in green."""
    side = marked.shape[::-1]
    pixels = np.asarray(Image.fromarray(np.asarray(image)).resize(side, Image.Resampling.BICUBIC), np.float32) / 255
    pixels[marked] += TINT * (to_rgb(PREDICTION) - pixels[marked])
    return _outlined(pixels, truth, marked)


def probability_map(probabilities: np.ndarray, truth: np.ndarray, marked: np.ndarray) -> np.ndarray:
    """Probabilities (S, S) in [0, 1] from black to white, uint8 (S, S, 3), with the outlines of `overlay`."""
    return _outlined(np.repeat(probabilities[..., None], 3, axis=2), truth, marked)


def triangle(
    points: np.ndarray, values: np.ndarray, side: int, present: Sequence[float], best: Sequence[float]
) -> np.ndarray:
    """Values (P,) at `points`, float (P, 3), of the simplex, from the least (dark) to the largest (bright); RGBA uint8 (H, W, 4).

    The first member's corner is on top, the second's on the left, the third's on the right. A ring marks the point `present`,
    a cross the point `best`. Its width W is twice `side`.
    """
    nearest = _nearest(points.tobytes(), side)
    spread = np.ptp(values) or 1.0
    colours = np.zeros((len(points) + 1, 4), np.uint8)  # the last one is of what lies outside
    colours[:-1] = colormaps["viridis"]((values - values.min()) / spread, bytes=True)
    picture = Image.fromarray(colours.view(np.uint32)[nearest].view(np.uint8))
    draw, reach = ImageDraw.Draw(picture), 7 * FINER
    for colour, width in (("black", 8), ("white", 4)):
        x, y = _place(np.array(best), side)
        draw.line((x - reach, y, x + reach, y), colour, width)
        draw.line((x, y - reach, x, y + reach), colour, width)
        x, y = _place(np.array(present), side)
        draw.circle((x, y), reach + width / 2, None, colour, width)
    return np.asarray(picture)


def jpeg(pixels: np.ndarray) -> bytes:
    """A picture, uint8 (H, W, 3), as a JPEG with all its colours: ten times faster than a PNG of a photograph."""
    file = BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=92, subsampling=0)
    return file.getvalue()


def png(pixels: np.ndarray) -> bytes:
    """A picture, uint8 (H, W, 3) or (H, W, 4), as a PNG: quickly, not small."""
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()


def _outlined(pixels: np.ndarray, truth: np.ndarray, marked: np.ndarray) -> np.ndarray:
    """Pixels, float (S, S, 3), with both outlines, as uint8."""
    scaled = Image.fromarray(np.asarray(truth, bool)).resize(marked.shape[::-1], Image.Resampling.NEAREST)
    pixels[_edge(marked)] = to_rgb(PREDICTION)
    pixels[_edge(np.asarray(scaled))] = to_rgb(TRUTH)
    return np.uint8(255 * pixels.clip(0, 1) + 0.5)


def _edge(mask: np.ndarray) -> np.ndarray:
    """The outermost pixels of a mask, bool (S, S): two in a picture of 384, one in a small one."""
    return mask & ~ndimage.binary_erosion(mask, iterations=max(1, len(mask) // 192), border_value=1)


def _place(weights: np.ndarray, side: int) -> np.ndarray:
    """Where weights (..., 3) lie in the picture of a triangle: x and y, (2, ...)."""
    edge = FINER * side - 2 * MARGIN
    top, _, right = np.moveaxis(weights, -1, 0)
    return np.stack([MARGIN + edge * (right + top / 2), MARGIN + edge * HEIGHT * (1 - top)])


@lru_cache(4)
def _nearest(points: bytes, side: int) -> np.ndarray:
    """For each pixel (H, W) of a triangle the number of the point next to it; outside of it the number of points."""
    places = _place(np.frombuffer(points).reshape(-1, 3), side)
    edge = FINER * side - 2 * MARGIN
    y, x = np.mgrid[: int(edge * HEIGHT) + 2 * MARGIN, : FINER * side] + 0.5
    top = 1 - (y - MARGIN) / (edge * HEIGHT)
    right = (x - MARGIN) / edge - top / 2
    inside = np.minimum(np.minimum(top, right), 1 - top - right) >= -0.02
    distances = (x[..., None] - places[0]) ** 2 + (y[..., None] - places[1]) ** 2
    return np.where(inside, distances.argmin(axis=-1), places.shape[1])
