"""Raster images drawn with NumPy and Pillow in milliseconds, fast enough to follow a slider: overlays and the weight simplex."""

from collections.abc import Sequence
from functools import lru_cache
from io import BytesIO

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_rgb
from PIL import Image, ImageDraw
from scipy import ndimage

from vlsm_helpers.plots.base import GROUND_TRUTH, PREDICTION

TINT = 0.35  # opacity of the prediction's colour
HEIGHT = 0.75**0.5  # height of an equilateral triangle of side 1
OVERSAMPLING = 2  # the triangle is drawn at this multiple of its displayed size, so that its markers are smooth
MARGIN = 10 * OVERSAMPLING  # pixels around the triangle, for markers on its corners


def overlay(image: np.ndarray, ground_truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """An image, uint8 (h, w, 3), resized to the prediction, bool (S, S): uint8 (S, S, 3).

    The prediction is tinted and outlined in orange, the ground truth, bool (H, W), outlined in green.
    """
    size = prediction.shape[::-1]
    pixels = np.asarray(Image.fromarray(np.asarray(image)).resize(size, Image.Resampling.BICUBIC), np.float32) / 255
    pixels[prediction] += TINT * (to_rgb(PREDICTION) - pixels[prediction])
    return _outlined(pixels, ground_truth, prediction)


def probability_overlay(probabilities: np.ndarray, ground_truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Probabilities (S, S), in [0, 1], from black to white, uint8 (S, S, 3), with the outlines of `overlay`."""
    return _outlined(np.repeat(probabilities[..., None], 3, axis=2), ground_truth, prediction)


def simplex_map(
    points: np.ndarray, values: np.ndarray, side: int, current: Sequence[float], best: Sequence[float]
) -> np.ndarray:
    """Values (P,) at `points`, (P, 3), of the weight simplex, from lowest (dark) to highest (bright): RGBA uint8 (H, W, 4).

    Corners: the first member on top, the second on the left, the third on the right. A ring marks the point `current`, a
    cross the point `best`. The width W is twice `side`.
    """
    nearest = _nearest(points.tobytes(), side)
    spread = np.ptp(values) or 1.0
    colours = np.zeros((len(points) + 1, 4), np.uint8)  # the last entry colours what is outside the triangle
    colours[:-1] = colormaps["viridis"]((values - values.min()) / spread, bytes=True)
    canvas = Image.fromarray(colours.view(np.uint32)[nearest].view(np.uint8))
    draw, reach = ImageDraw.Draw(canvas), 7 * OVERSAMPLING
    for colour, width in (("black", 8), ("white", 4)):
        x, y = _position(np.array(best), side)
        draw.line((x - reach, y, x + reach, y), colour, width)
        draw.line((x, y - reach, x, y + reach), colour, width)
        x, y = _position(np.array(current), side)
        draw.circle((x, y), reach + width / 2, None, colour, width)
    return np.asarray(canvas)


def jpeg(pixels: np.ndarray) -> bytes:
    """Encode pixels, uint8 (H, W, 3), as a JPEG without chroma subsampling: ten times faster than a PNG of a photograph."""
    file = BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=92, subsampling=0)
    return file.getvalue()


def png(pixels: np.ndarray) -> bytes:
    """Encode pixels, uint8 (H, W, 3 or 4), as a PNG, with little compression for speed."""
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()


def _outlined(pixels: np.ndarray, ground_truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Pixels, float (S, S, 3) in [0, 1], with both outlines, as uint8."""
    scaled = Image.fromarray(np.asarray(ground_truth, bool)).resize(prediction.shape[::-1], Image.Resampling.NEAREST)
    pixels[_edge(prediction)] = to_rgb(PREDICTION)
    pixels[_edge(np.asarray(scaled))] = to_rgb(GROUND_TRUTH)
    return np.uint8(255 * pixels.clip(0, 1) + 0.5)


def _edge(mask: np.ndarray) -> np.ndarray:
    """The outermost pixels of a mask, bool (S, S): a line 2 pixels wide at 384 pixels, 1 wide in smaller images."""
    return mask & ~ndimage.binary_erosion(mask, iterations=max(1, len(mask) // 192), border_value=1)


def _position(weights: np.ndarray, side: int) -> np.ndarray:
    """The pixel coordinates x and y, (2, ...), of weights (..., 3)."""
    edge = OVERSAMPLING * side - 2 * MARGIN
    top, _, right = np.moveaxis(weights, -1, 0)
    return np.stack([MARGIN + edge * (right + top / 2), MARGIN + edge * HEIGHT * (1 - top)])


@lru_cache(4)
def _nearest(points: bytes, side: int) -> np.ndarray:
    """The index of the point nearest to each pixel (H, W); outside the triangle, the number of points."""
    positions = _position(np.frombuffer(points).reshape(-1, 3), side)
    edge = OVERSAMPLING * side - 2 * MARGIN
    y, x = np.mgrid[: int(edge * HEIGHT) + 2 * MARGIN, : OVERSAMPLING * side] + 0.5
    top = 1 - (y - MARGIN) / (edge * HEIGHT)
    right = (x - MARGIN) / edge - top / 2
    inside = np.minimum(np.minimum(top, right), 1 - top - right) >= -0.02
    distances = (x[..., None] - positions[0]) ** 2 + (y[..., None] - positions[1]) ** 2
    return np.where(inside, distances.argmin(axis=-1), positions.shape[1])
