"""What the things of the general world lie on: surfaces of many kinds, and pale fronts with dark openings in them.

Nothing here has a name: what a prompt speaks of is laid on top. Lengths are in half-widths of the picture.
"""

import numpy as np

from vlsm_helpers.data.phantoms.drawing import (
    blob,
    chance,
    fractal,
    grid,
    mix,
    noise,
    pick,
    ridges,
    shade,
    smoothstep,
)

SIZE = 128
_WARM = [
    (0.82, 0.45, 0.40),
    (0.78, 0.32, 0.26),
    (0.86, 0.62, 0.50),
    (0.62, 0.42, 0.30),
    (0.85, 0.55, 0.35),
    (0.55, 0.25, 0.2),
]


def draw_ground(rng: np.random.Generator, is_grey: bool, windows: float) -> tuple[np.ndarray, np.ndarray | None]:
    """A ground, float (SIZE, SIZE, 3) in about [0, 1], and the depth inside its openings, below 0 outside; None without any.

    `windows`: the share of grey grounds that have openings.
    """
    if windows and is_grey and chance(rng, windows):
        return _windows(rng)
    return _surface(rng, is_grey), None


def _surface(rng: np.random.Generator, is_grey: bool) -> np.ndarray:
    """Any of six grounds, float (SIZE, SIZE, 3)."""
    if is_grey:
        first, second = (np.full(3, rng.uniform(0.1, 0.8)) for _ in range(2))
    else:
        first = np.array(pick(rng, _WARM)) if chance(rng, 0.55) else rng.uniform(0.1, 0.9, 3)
        second = np.clip(first + rng.uniform(-0.25, 0.25, 3), 0, 1)
    ground = pick(rng, (_plain, _cloudy, _wavy, _speckled, _layered, _wall, _wall) if not is_grey else _GREY_GROUNDS)
    image = mix(np.broadcast_to(first, (SIZE, SIZE, 3)), second, np.clip(ground(rng), 0, 1))
    return image * (1 + rng.uniform(0, 0.25) * noise(rng, SIZE, 2))[..., None]


def _plain(rng):
    y, x = grid(SIZE)
    angle = rng.uniform(0, 2 * np.pi)
    return 0.5 + rng.uniform(0, 0.5) * (y * np.sin(angle) + x * np.cos(angle)) + 0.02 * noise(rng, SIZE, 40)


def _cloudy(rng):
    return 0.5 + rng.uniform(0.1, 0.35) * fractal(rng, SIZE, int(rng.uniform(2, 9)))


def _wavy(rng):
    y, x = grid(SIZE)
    angle, bends = rng.uniform(0, np.pi), noise(rng, SIZE, 3)
    across = y * np.sin(angle) + x * np.cos(angle)
    return 0.5 + rng.uniform(0.1, 0.4) * np.sin(rng.uniform(6, 30) * across + 1.2 * bends)


def _speckled(rng):
    grain = noise(rng, SIZE, 50) * rng.uniform(0.1, 0.3)
    return 0.4 + 0.2 * fractal(rng, SIZE, 4) + grain


def _layered(rng):
    """Bands that run across, bright streaks along them, speckle over all."""
    bands = noise(rng, SIZE, int(rng.uniform(4, 10)), 2)
    streaks = smoothstep(1.0, 2.2, noise(rng, SIZE, 24, 4)) * rng.uniform(0, 0.8)
    return (0.4 + 0.2 * bands + streaks) * (1 + rng.uniform(0.1, 0.3) * noise(rng, SIZE, 48))


def _wall(rng):
    """A lit surface with folds, a dark hollow and fine lines."""
    y, x = grid(SIZE)
    hollow = rng.uniform(-1.2, 1.2, 2)
    reach = np.hypot(y - hollow[0], x - hollow[1]) * (1 + 0.1 * noise(rng, SIZE, 3)) + 0.02
    phase = np.log(reach) * rng.uniform(1.0, 2.5) + 0.15 * noise(rng, SIZE, 4)
    step = phase - np.floor(phase)
    folds = rng.uniform(0.05, 0.6) * smoothstep(0, 0.12, step) * (1 - step) ** 2
    light = 1 - np.exp(-((reach / rng.uniform(0.1, 0.6)) ** 1.5))
    lines = ridges(fractal(rng, SIZE, 5, 2), 0.012) * rng.uniform(0, 0.3)
    relief = shade(0.08 * fractal(rng, SIZE, 4), tuple(rng.uniform(-0.4, 0.4, 2)))
    return light * relief * (0.55 + folds) + 0.1 * noise(rng, SIZE, 3) - lines


def _bars(rng):
    """Soft columns and ribs of light, the shadows of things that have no name."""
    y, x = grid(SIZE)
    ribs = np.sin(rng.uniform(14, 24) * (y + rng.uniform(-0.5, 0.5) * np.abs(x) ** 1.5)) * rng.uniform(0, 0.12)
    column = smoothstep(0.3, 0.1, np.abs(x + rng.uniform(-0.2, 0.2))) * rng.uniform(0.1, 0.4)
    hollows = [blob((y, x), (rng.uniform(-0.3, 0.2), s * 0.45), (0.36, 0.75)) for s in (-1, 1)]
    return 0.6 + ribs + column - rng.uniform(0.1, 0.4) * smoothstep(-0.1, 0.2, np.maximum(*hollows))


_GREY_GROUNDS = (_plain, _cloudy, _speckled, _layered, _layered, _bars, _bars)


def _windows(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A pale front with dark openings, a post and curtains before them, slats across; and the depth inside what is open."""
    y, x = grid(SIZE)
    tilt = rng.uniform(-0.15, 0.15)
    v, u = y + tilt * x - rng.uniform(-0.25, 0.25), x - tilt * y - rng.uniform(-0.15, 0.15)
    depth = _openings(rng, v, u)
    pale, dark = rng.uniform(0.5, 0.9), rng.uniform(0.06, 0.4)
    depth = _curtained(rng, v, u, depth)
    open_ = smoothstep(-0.02, rng.uniform(0.01, 0.06), depth)
    rim = smoothstep(rng.uniform(0.1, 0.2), 0.0, np.abs(depth)) * rng.uniform(0, 0.1)
    course = v + rng.uniform(-0.5, 0.5) * np.abs(u) ** 1.5
    slats = smoothstep(0.2, 0.7, np.sin(rng.uniform(14, 34) * course)) * rng.uniform(0, 0.18)
    post = smoothstep(0.14, 0.07, np.abs(u)) * rng.uniform(0, 0.2)
    side = np.minimum(1.0, rng.uniform(0.75, 1.3)) - np.abs(u)
    front = smoothstep(0.0, 0.1, side) if chance(rng, 0.4) else np.ones_like(y)
    wall = pale * front * (1 + 0.08 * noise(rng, SIZE, 3)) * (1 - open_)
    grey = wall + dark * open_ * (1 + 0.1 * fractal(rng, SIZE, 5))
    grey = grey + (slats * (0.4 + 0.6 * open_) + post + rim) * front
    grey = grey * (1 + rng.uniform(0, 0.15) * noise(rng, SIZE, 2))
    return np.repeat(grey[..., None], 3, -1), depth


def _openings(rng: np.random.Generator, v: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Depth inside one, two or three openings side by side, rounded above, some of them cut level below."""
    count = pick(rng, (1, 2, 2, 2, 3))
    height, power = rng.uniform(0.45, 0.85), rng.uniform(2, 5)
    width = rng.uniform((0.4, 0.22, 0.15), (0.8, 0.4, 0.25))[count - 1]
    apart = width + rng.uniform(0.05, 0.16)
    depth = np.full_like(v, -1.0)
    for place in {1: (0.0,), 2: (-1.0, 1.0), 3: (-2.0, 0.0, 2.0)}[count]:
        across = (u - place * apart) / width + place * rng.uniform(0, 0.4) * v
        one = width * (1 - (np.abs(across) ** power + np.abs(v / height) ** power) ** (1 / power))
        depth = np.maximum(depth, np.minimum(one, rng.uniform(0.4, 1.0) * height - v))
    return depth


def _curtained(rng: np.random.Generator, v: np.ndarray, u: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """The depth that is left of openings behind none, one or two rounded curtains, as pale as the front."""
    for _ in range(int(rng.uniform(0, 3))):
        centre = rng.uniform(-0.2, 0.8), rng.uniform(-0.4, 0.4)
        depth = np.minimum(depth, -0.3 * blob((v, u), centre, (rng.uniform(0.2, 0.5), rng.uniform(0.15, 0.4))))
    return depth
