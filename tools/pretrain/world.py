"""The general world that the miniature CLIPSeg learns from: scenes of many things, and prompts that name some of them.

Nothing here is medical. Shapes of every kind lie on plain, wavy, speckled or lit backgrounds, as flat cut-outs, as shaded
bumps or as soft patches. What a prompt may call a thing (colour, tone, size, place) is measured on the finished picture, so
that words mean what is seen. Lengths are in half-widths of the picture, as in the phantoms, whose drawing tools are used.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from vlsm_helpers.data.phantoms.drawing import (
    blob,
    blur,
    chance,
    fractal,
    grid,
    lobes,
    mix,
    noise,
    pick,
    ridges,
    shade,
    smoothstep,
    stroke,
)
from vlsm_helpers.data.prompts import PALETTE, colour_word

SIZE = 128
LEAST_PIXELS = 40  # a thing that shows less of itself has no name,
LEAST_CHANGE = 0.035  # nor has one that changes the picture less than this where it lies
SHAPES = {  # what each may be called
    "circle": ("circle", "disc", "ball"),
    "oval": ("oval", "egg", "ellipse"),
    "blob": ("blob", "splotch"),
    "square": ("square", "box"),
    "bar": ("bar", "stick", "rod"),
    "triangle": ("triangle",),
    "ring": ("ring", "loop"),
    "star": ("star",),
    "crescent": ("crescent", "moon"),
    "cross": ("cross", "plus"),
}
ROUNDED = ("circle", "oval", "blob")  # these are raised, and soft, more often than the others
RELIEFS = {"flat": (), "bump": ("bump", "lump", "mound", "bulge"), "patch": ("patch", "stain", "smudge")}
SHAPE_WORDS = {"circle": "round", "oval": "oval", "blob": "irregular", "bar": "elongated"}
SMALL_THING, TONE_STEP = 0.025, 0.07  # "spot" and "dot" up to this share of the picture; how much darker is dark
_INKS = {name: np.array(colour) / 255 for name, colour in PALETTE.items()}
_WARM = [
    (0.82, 0.45, 0.40),
    (0.78, 0.32, 0.26),
    (0.86, 0.62, 0.50),
    (0.62, 0.42, 0.30),
    (0.85, 0.55, 0.35),
    (0.55, 0.25, 0.2),
]


@dataclass(frozen=True)
class Thing:
    """One thing of a scene and all that a prompt may say of it."""

    mask: np.ndarray  # bool (SIZE, SIZE), what is seen of it
    shape: str
    relief: str
    texture: str
    colour: str
    tone: str  # dark or bright against what is around it, or ""

    @property
    def nouns(self) -> tuple[str, ...]:
        """What it may be called."""
        spots = ("spot", "dot") if self.mask.mean() < SMALL_THING and self.shape in ROUNDED else ()
        return SHAPES[self.shape] + RELIEFS[self.relief] + spots


@dataclass(frozen=True)
class Scene:
    """A picture, uint8 (SIZE, SIZE, 3), and its things."""

    image: np.ndarray
    things: tuple[Thing, ...]


def draw(seed: int) -> Scene:
    """The scene `seed`: one to five things; the same on every machine."""
    rng = np.random.Generator(np.random.Philox(key=[0x5CE7E, seed]))
    is_grey = chance(rng, 0.27)
    image = _background(rng, is_grey)
    drawn, plan = [], None
    for _ in range(1 + int(rng.random() ** 1.3 * 5)):
        if plan is None or not chance(
            rng, 0.3
        ):  # else a second one of its kind, that only its place tells from the first
            plan = _plan(rng, is_grey)
        image, mask = _add(rng, image, plan)
        drawn = [(earlier & ~mask, kept) for earlier, kept in drawn] + [(mask, plan[:3])]
    image, frame = _camera(rng, image, is_grey)
    pixels = np.floor(np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)
    seen = [(mask & frame, facts) for mask, facts in drawn]
    return Scene(pixels, tuple(_named(pixels, mask, *facts) for mask, facts in seen if mask.sum() >= LEAST_PIXELS))


def _named(pixels: np.ndarray, mask: np.ndarray, shape: str, relief: str, texture: str) -> Thing:
    bright = pixels.mean(-1) / 255
    around = ndimage.binary_dilation(mask, iterations=6) & ~ndimage.binary_dilation(mask, iterations=1)
    step = bright[mask].mean() - bright[around].mean() if around.any() else 0.0
    tone = "dark" if step < -TONE_STEP else "bright" if step > TONE_STEP else ""
    colour = colour_word(pixels, mask)
    if colour in ("dark", "bright"):  # on a grey picture these are black and white; dark is kept for the contrast
        colour = "black" if colour == "dark" else "white"
    return Thing(mask, shape, relief, texture, colour, tone)


def _ink(rng: np.random.Generator, is_grey: bool) -> np.ndarray:
    """The colour of a thing: one of the palette, a little off."""
    if is_grey:
        return np.full(3, pick(rng, (0.08, 0.2, 0.45, 0.7, 0.9)) + rng.uniform(-0.06, 0.06))
    return np.clip(_INKS[pick(rng, list(_INKS))] + rng.uniform(-0.05, 0.05, 3), 0.02, 0.98)


def _background(rng: np.random.Generator, is_grey: bool) -> np.ndarray:
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


def _plan(rng: np.random.Generator, is_grey: bool):
    """What a thing will be: (shape, relief, texture, colour); no colour means that of the ground, a little off."""
    shape = pick(rng, ROUNDED) if chance(rng, 0.62) else pick(rng, list(SHAPES))
    rounded = ("bump", "bump", "patch", "patch", "flat")
    relief = pick(rng, rounded if shape in ROUNDED else ("flat", "flat", "patch"))
    texture = pick(rng, ("plain", "plain", "plain", "striped", "spotted", "speckled"))
    own = _ink(rng, is_grey)
    return shape, relief, texture, None if chance(rng, 0.4) else own


def _add(rng: np.random.Generator, image: np.ndarray, plan) -> tuple[np.ndarray, np.ndarray]:
    """The image with one more thing, and its mask; empty where nobody would see it."""
    shape, relief, texture, own = plan
    radius = 0.08 + 0.42 * rng.random() ** 1.5
    depth = _SHAPE_DEPTHS[shape](rng, _local(rng, radius))
    if relief == "patch":
        depth = depth + rng.uniform(0, 0.12) * noise(rng, SIZE, 10)
    inside = depth > 0
    if not inside.any():
        return image, inside
    if own is None:
        tint = rng.uniform(-0.08, 0.08, 3) * (np.ptp(image[inside].mean(0)) > 0.02)
        own = np.clip(image[inside].mean(0) * (1 + rng.uniform(-0.3, 0.3) + tint), 0, 1)
    changed = _RELIEFS[relief](rng, image, _textured(rng, own, texture), depth, radius)
    return changed, inside & (np.abs(changed - image)[inside].mean() > LEAST_CHANGE)


def _local(rng: np.random.Generator, radius: float):
    """A thing's own coordinates (v, u): its centre is (0, 0), its radius 1, its axis along u."""
    y, x = grid(SIZE)
    spread = 0.95 - 0.6 * radius
    centre, angle = rng.uniform(-spread, spread, 2), rng.uniform(0, 2 * np.pi)
    dy, dx = (y - centre[0]) / radius, (x - centre[1]) / radius
    return dy * np.cos(angle) - dx * np.sin(angle), dx * np.cos(angle) + dy * np.sin(angle)


def _star(rng, at):
    turn = np.arctan2(*at)
    points = pick(rng, (5, 6))
    return 0.62 + 0.38 * np.cos(points * turn) - np.hypot(*at)


# Each: depth inside a shape, above 0 inside and about 1 at most, at local coordinates (v, u).
_SHAPE_DEPTHS: dict[str, Callable] = {
    "circle": lambda rng, at: blob(at, (0, 0), (1, 1)),
    "oval": lambda rng, at: blob(at, (0, 0), (1.2, rng.uniform(0.5, 0.85))),
    "blob": lambda rng, at: blob(at, (0, 0), (1.1, rng.uniform(0.7, 1)), 0.0, lobes(rng, 0.2, (2, 3, 4, 5))),
    "square": lambda rng, at: 0.85 - np.maximum(np.abs(at[0]), np.abs(at[1])),
    "bar": lambda rng, at: np.minimum(0.35 - np.abs(at[0]), 1.4 - np.abs(at[1])),
    "triangle": lambda rng, at: np.minimum(at[0] + 0.6, 0.6 - 0.5 * at[0] - 0.87 * np.abs(at[1])),
    "ring": lambda rng, at: 0.28 - np.abs(np.hypot(*at) - 0.8),
    "star": _star,
    "crescent": lambda rng, at: np.minimum(1 - np.hypot(*at), np.hypot(at[0], at[1] - 0.55) - 0.75),
    "cross": lambda rng, at: np.maximum(
        np.minimum(0.3 - np.abs(at[0]), 1 - np.abs(at[1])), np.minimum(0.3 - np.abs(at[1]), 1 - np.abs(at[0]))
    ),
}


def _textured(rng: np.random.Generator, own: np.ndarray, texture: str) -> np.ndarray:
    """The colours (SIZE, SIZE, 3) of a thing's surface."""
    y, x = grid(SIZE)
    angle = rng.uniform(0, np.pi)
    second = np.clip(own + pick(rng, (-0.3, 0.3)) + rng.uniform(-0.05, 0.05), 0, 1)
    amount = {
        "plain": 0.06 * noise(rng, SIZE, 12),
        "striped": 0.8 * (np.sin(rng.uniform(25, 45) * (y * np.sin(angle) + x * np.cos(angle))) > 0.2),
        "spotted": 0.9 * smoothstep(0.9, 1.2, noise(rng, SIZE, 18)),
        "speckled": 0.5 + 0.35 * noise(rng, SIZE, 50),
    }[texture]
    return mix(np.broadcast_to(own, (SIZE, SIZE, 3)), second, np.clip(amount, 0, 1))


def _lay_flat(rng, image, colours, depth, radius):
    edge = rng.uniform(0.005, 0.03) / radius
    cover = smoothstep(-edge, edge, depth)
    return image * (1 - cover[..., None]) + colours * cover[..., None]


def _stain(rng, image, colours, depth, radius):
    """A patch with soft borders through which the ground is seen; sometimes it only darkens or lightens it."""
    edge = rng.uniform(0.02, 0.10) / radius
    cover = (rng.uniform(0.45, 0.95) * smoothstep(-edge, edge, depth))[..., None]
    if chance(rng, 0.5):
        colours = np.clip(image * pick(rng, (0.35, 0.5, 0.65, 1.4, 1.7)), 0, 1)
    return image * (1 - cover) + colours * cover


def _raise(rng, image, colours, depth, radius):
    """A lump under the scene's light: bright where it faces the lamp, a crease around it, sometimes a shadow and a glint."""
    lamp = rng.uniform(-0.4, 0.4, 2)
    rise = np.clip(depth, 0, 1)
    relief = shade(radius * rng.uniform(0.3, 0.9) * np.sqrt(rise * (2 - rise)), tuple(lamp))
    inside = smoothstep(-0.04, 0.08, depth)
    shadow = smoothstep(-0.2, 0.3, ndimage.shift(depth, -lamp * radius * SIZE * 0.5, order=1, mode="nearest"))
    crease = np.exp(-((np.clip(-depth, 0, None) / 0.12) ** 2))
    shaded = (
        image * (1 - rng.uniform(0.2, 0.5) * blur(np.maximum(shadow, 0.8 * crease), 0.015) * (1 - inside))[..., None]
    )
    grain = 1 + rng.uniform(0, 0.1) * noise(rng, SIZE, 26)
    lit = np.clip(colours * (relief * grain)[..., None] * rng.uniform(0.9, 1.15), 0, 1)
    top = smoothstep(0.8, 1.0, rise) * smoothstep(1.0, 1.8, noise(rng, SIZE, 14)) * chance(rng, 0.5)
    return shaded * (1 - inside[..., None]) + mix(lit, (1, 1, 1), 0.7 * top) * inside[..., None]


_RELIEFS = {"flat": _lay_flat, "bump": _raise, "patch": _stain}


def _camera(rng: np.random.Generator, image: np.ndarray, is_grey: bool):
    """Lines, glints, uneven light, a frame, blur and grain, none of which has a name; and what the frame shows, bool."""
    y, x = grid(SIZE)
    for _ in range(int(rng.uniform(1, 10) * chance(rng, 0.1))):
        across = stroke((y, x), rng.uniform(-1, 1, 2), rng.uniform(-1, 1, 2), rng.uniform(-0.2, 0.2))
        image = mix(image, np.full(3, pick(rng, (0.08, 0.1, 0.85))), 0.8 * smoothstep(0.02, 0.008, across))
    if not is_grey and chance(rng, 0.35):
        glints = smoothstep(1.7, 2.3, noise(rng, SIZE, 30, 20)) * smoothstep(0.2, 1.2, noise(rng, SIZE, 4))
        image = mix(image, (1, 1, 1), rng.uniform(0.4, 0.9) * glints)
    reach = np.hypot(y, x)
    image = image * (1 - rng.uniform(0, 0.35) * reach**2 * chance(rng, 0.5))[..., None]
    cut = np.maximum(np.maximum(np.abs(x), np.abs(y)), (np.abs(x) + np.abs(y)) / rng.uniform(1.5, 1.75))
    form, edge = rng.random(), rng.uniform(0.93, 1.1)
    inside = reach < edge if form < 0.15 else cut < min(edge, 0.99) if form < 0.32 else np.ones_like(reach, bool)
    image = np.where(inside[..., None], image, rng.uniform(0, 0.06))
    return blur(image, rng.uniform(0, 0.02)) + rng.uniform(-0.02, 0.02, (SIZE, SIZE, 1 if is_grey else 3)), inside
