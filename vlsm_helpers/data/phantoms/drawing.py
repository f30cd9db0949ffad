"""Drawing tools of all four modalities: random streams, smooth noise, blobs, strokes, shading and the difficulty table.

Lengths are in half-widths of the image: x and y run from -1 (left, top) to 1, so a scene looks the same at any size.
Fields are float64 (size, size). Only `random` and `uniform` are drawn from the generators, whose streams NumPy has
kept since 1.17; what differs between machines in the last bit of a sine is lost in rounding to 8 bits.
"""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import ndimage

Stream = Callable[[str], np.random.Generator]
NOISE_GAIN = 3.6  # brings spline noise over uniform lattice values to a standard deviation of about 1


@dataclass(frozen=True)
class Difficulty:
    """The difficulty of an image; every modality interprets the same six numbers in its own terms."""

    contrast: float  # of the target against its surroundings, 1 = clearly visible
    lookalikes: int  # maximum number of distractors that resemble the target
    cast: float  # strength of the colour cast, or of the change of exposure
    haze: float  # maximum veil
    blur: float  # maximum, in half-widths
    jitter: float  # SD of the annotator's outline, in half-widths


DIFFICULTIES = {
    "easy": Difficulty(contrast=1.0, lookalikes=0, cast=0.04, haze=0.05, blur=0.006, jitter=0.0),
    "medium": Difficulty(contrast=0.7, lookalikes=2, cast=0.10, haze=0.18, blur=0.014, jitter=0.012),
    "hard": Difficulty(contrast=0.45, lookalikes=4, cast=0.16, haze=0.32, blur=0.022, jitter=0.022),
}


@dataclass(frozen=True)
class Drawing:
    """A modality's image before rounding: RGB float (size, size, 3), about 0 to 1; mask bool (size, size)."""

    image: np.ndarray
    mask: np.ndarray
    noun: str  # the word for the target in prompts
    kind: str


def streams(name: str, seed: int) -> Stream:
    """One random generator per part of an image, so that a change in one part leaves the others as they are."""
    return lambda part: np.random.Generator(np.random.Philox(key=[zlib.crc32(f"{name}/{part}".encode()), seed]))


def pick(rng: np.random.Generator, options: Sequence):
    """One of `options`, with equal probability."""
    return options[int(rng.random() * len(options))]


def chance(rng: np.random.Generator, probability: float) -> bool:
    """True with this probability."""
    return bool(rng.random() < probability)


@lru_cache(maxsize=8)
def grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    """y and x of the pixels' centres, each (size, size), from -1 to 1; read-only, because they are shared."""
    axis = (np.arange(size) + 0.5) * 2 / size - 1
    y, x = np.meshgrid(axis, axis, indexing="ij")
    y.flags.writeable = x.flags.writeable = False
    return y, x


@lru_cache(maxsize=128)
def _spline(size: int, cells: int) -> np.ndarray:
    """Cubic B-spline weights (size, cells + 3) that spread lattice values over `size` pixels."""
    position = (np.arange(size) + 0.5) * cells / size
    distance = np.abs(position[:, None] - (np.arange(cells + 3) - 1)[None, :])
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = np.clip(2 - distance, 0, None) ** 3 / 6
    return np.where(distance < 1, near, far)


def noise(rng: np.random.Generator, size: int, rows: int, columns: int | None = None) -> np.ndarray:
    """A smooth random field, mean 0, SD about 1, with `rows` x `columns` (default: `rows`) bumps across the image."""
    columns = columns or rows
    lattice = rng.uniform(-1, 1, (rows + 3, columns + 3))
    return _spline(size, rows) @ lattice @ _spline(size, columns).T * NOISE_GAIN


def fractal(rng: np.random.Generator, size: int, cells: int, octaves: int = 3) -> np.ndarray:
    """Noise at `cells`, twice, four times ... as many bumps, each half as strong; SD about 1."""
    parts = [noise(rng, size, cells * 2**k) / 2**k for k in range(octaves)]
    return sum(parts) / np.sqrt(sum(0.25**k for k in range(octaves)))


def wander(rng: np.random.Generator, size: int, cells: int) -> np.ndarray:
    """A smooth random curve (size,), mean 0, SD about 1: the deviation of a line that crosses the image."""
    return _spline(size, cells) @ rng.uniform(-1, 1, cells + 3) * np.sqrt(NOISE_GAIN * 1.75)


def ridges(field: np.ndarray, width: float) -> np.ndarray:
    """Thin lines of even `width` (half-widths) where `field` crosses 0: vessels, septa; 0 to 1."""
    slope = np.hypot(*np.gradient(field, 2 / len(field)))
    return np.exp(-((field / (slope + 1e-3) / width) ** 2))


def smoothstep(low: float, high: float, value: np.ndarray) -> np.ndarray:
    """Smooth step: 0 below `low`, 1 above `high` (reversed if low > high)."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def lobes(rng: np.random.Generator, amount: float, orders: Sequence[int]) -> list[tuple[int, float, float]]:
    """Waves (order, amplitude, phase) that deform an outline by about `amount` of its radius."""
    return [(k, amount * rng.uniform(0.3, 1.0) * orders[0] / k, rng.uniform(0, 2 * np.pi)) for k in orders]


def blob(at, centre, radii, angle: float = 0.0, waves: Sequence[tuple[int, float, float]] = ()) -> np.ndarray:
    """Depth inside a lobed ellipse at the points `at` (y, x): 1 at its centre, 0 on its outline, below 0 outside.

    `radii` are those along and across its axis, which `angle` (radians) turns from left-right towards top-bottom.
    """
    y, x = at
    dy, dx = y - centre[0], x - centre[1]
    u = (dx * np.cos(angle) + dy * np.sin(angle)) / radii[0]
    v = (dy * np.cos(angle) - dx * np.sin(angle)) / radii[1]
    outline = 1.0
    if waves:
        theta = np.arctan2(v, u)
        outline = 1 + sum(a * np.cos(k * theta + phase) for k, a, phase in waves)
    return 1 - np.sqrt(u**2 + v**2) / outline


def stroke(at, start, end, bend: float = 0.0) -> np.ndarray:
    """Distance of the points `at` (y, x) to an arc from `start` to `end` whose middle deviates sideways by `bend`."""
    y, x = at
    ey, ex = end[0] - start[0], end[1] - start[1]
    length = np.hypot(ey, ex)
    along = ((y - start[0]) * ey + (x - start[1]) * ex) / length**2
    across = ((x - start[1]) * ey - (y - start[0]) * ex) / length
    t = np.clip(along, 0, 1)
    slope = 4 * bend * (1 - 2 * t) / length
    aside = (across - 4 * bend * t * (1 - t)) / np.sqrt(1 + slope**2)
    return np.sqrt(aside**2 + ((along - t) * length) ** 2)  # np.hypot is four times slower


def shade(height: np.ndarray, light: tuple[float, float]) -> np.ndarray:
    """Brightness of a surface of this height (half-widths), 1 where it is flat: the shading of all bumps.

    The lamp is at the camera, shifted towards `light` (y, x): slopes that face it are brighter, steep rims darker.
    """
    dy, dx = np.gradient(height, 2 / len(height))
    return np.clip((1 - light[0] * dy - light[1] * dx) / np.sqrt(1 + dy**2 + dx**2), 0, None)


def blur(field: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur by `sigma` half-widths over rows and columns, not over channels."""
    pixels = sigma * field.shape[0] / 2
    return ndimage.gaussian_filter(field, (pixels, pixels, 0)[: field.ndim], mode="nearest", truncate=3)


def mix(image: np.ndarray, colour, amount: np.ndarray | float) -> np.ndarray:
    """`image` (size, size, 3) blended with `amount` (a field or a number, 0 to 1) of `colour`."""
    amount = np.asarray(amount)
    pairs = zip(np.moveaxis(image, -1, 0), np.moveaxis(np.broadcast_to(colour, image.shape), -1, 0), strict=True)
    # One channel after another: broadcasting over a last axis of 3 takes three times as long.
    return np.stack([under * (1 - amount) + over * amount for under, over in pairs], axis=-1)


def annotate(rng: np.random.Generator, depth: np.ndarray, radius: float, jitter: float) -> np.ndarray:
    """The mask an annotator draws, bool: the outline of `blob` with `radius`, inaccurate by `jitter` (half-widths)."""
    return depth * radius + jitter * noise(rng, len(depth), 12) > 0
