"""Raster images drawn with NumPy and Pillow in milliseconds, fast enough to follow a slider: overlays and the weight simplex."""

from collections.abc import Sequence
from functools import lru_cache
from io import BytesIO

import cv2
import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_rgb
from PIL import Image, ImageDraw

from vlsm_helpers.plots.base import BLUE, GROUND_TRUTH, PREDICTION, PURPLE, RED, SKY

TINT = 0.35  # opacity of the prediction's colour
LABELS = (PREDICTION, BLUE, PURPLE, SKY, RED)  # the colours of a label map's classes
HEIGHT = 0.75**0.5  # height of an equilateral triangle of side 1
OVERSAMPLING = 2  # the triangle is drawn at this multiple of its displayed size, so that its markers are smooth
MARGIN = 10 * OVERSAMPLING  # pixels around the triangle, for markers on its corners


def overlay(image: np.ndarray, ground_truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """An image, uint8 (h, w, 3), resized to the prediction, bool (S, S): uint8 (S, S, 3).

    The prediction is tinted and outlined in orange, the ground truth, bool (H, W), outlined in green.
    """
    pixels = _resized(image, prediction.shape)
    _paint(pixels, prediction, PREDICTION)
    return _outline_ground_truth(pixels, ground_truth)


def label_overlay(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """An image, uint8 (h, w, 3), resized to a label map, uint8 (H, W): uint8 (H, W, 3), each class tinted and outlined.

    Label 0 is background; the others have the colours of `LABELS`, which repeat.
    """
    pixels = _resized(image, labels.shape)
    for label in np.unique(labels[labels > 0]):
        _paint(pixels, labels == label, LABELS[(int(label) - 1) % len(LABELS)])
    return pixels


def probability_overlay(probabilities: np.ndarray, ground_truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Probabilities (S, S), in [0, 1], from black to white, uint8 (S, S, 3), with the outlines of `overlay`."""
    pixels = np.repeat(np.uint8(255 * probabilities.clip(0, 1) + 0.5)[..., None], 3, axis=2)
    pixels[_edge(prediction)] = _rgb(PREDICTION)
    return _outline_ground_truth(pixels, ground_truth)


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


def _resized(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """A copy of an image, uint8 (h, w, 3), at another size (height, width)."""
    return np.array(Image.fromarray(np.asarray(image)).resize(shape[::-1], Image.Resampling.BICUBIC))


def _paint(pixels: np.ndarray, mask: np.ndarray, colour: str) -> None:
    """Tint the mask, bool (H, W), in `pixels`, uint8 (H, W, 3), and draw its outline; what is around it is not touched."""
    left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
    box = np.s_[max(0, top - 1) : top + height + 1, max(0, left - 1) : left + width + 1]
    inside, edge = mask[box], _edge(mask[box], _line_width(mask))
    for target, where, values in (
        (pixels[box], inside, cv2.LUT(pixels[box], _TINTED[colour])),
        (pixels[box], edge, _rgb(colour)),
    ):
        np.copyto(target, values, where=where[..., None])


def _outline_ground_truth(pixels: np.ndarray, ground_truth: np.ndarray) -> np.ndarray:
    """`pixels`, uint8 (H, W, 3), with the outline of a mask of any size."""
    mask = np.asarray(ground_truth, bool)
    if mask.any():
        scaled = Image.fromarray(mask).resize(pixels.shape[1::-1], Image.Resampling.NEAREST)
        pixels[_edge(np.asarray(scaled))] = _rgb(GROUND_TRUTH)
    return pixels


def _rgb(colour: str) -> np.ndarray:
    """A colour as uint8 (3,)."""
    return np.uint8(255 * np.array(to_rgb(colour)) + 0.5)


def _tinted(colour: str) -> np.ndarray:
    """What each level 0 to 255 of the three channels becomes under a tint, uint8 (1, 256, 3)."""
    levels = np.repeat(np.arange(256, dtype=np.float32)[None, :, None] / 255, 3, axis=2)
    levels += TINT * (np.array(to_rgb(colour)) - levels)
    return np.uint8(255 * levels + 0.5)


def _edge(mask: np.ndarray, width: int | None = None) -> np.ndarray:
    """The outermost pixels of a mask, bool (H, W): a line of `width` pixels, which its size decides unless given."""
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    width = _line_width(mask) if width is None else width
    inner = cv2.erode(mask.astype(np.uint8), cross, iterations=width, borderType=cv2.BORDER_CONSTANT, borderValue=1)
    return mask & (inner == 0)


def _line_width(mask: np.ndarray) -> int:
    """2 pixels at 384 pixels, 1 in smaller images."""
    return max(1, len(mask) // 192)


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


_TINTED = {colour: _tinted(colour) for colour in LABELS}
