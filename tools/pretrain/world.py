"""The general world that the miniature CLIPSeg learns from: scenes of many things, and prompts that name some of them.

Nothing here is medical. Shapes of every kind lie on the surfaces of `grounds.py` and behind its windows, as flat cut-outs,
shaded bumps or soft patches. What a prompt may call a thing (colour, tone, size, place) is measured on the finished picture,
so that words mean what is seen. Lengths are in half-widths of the picture, as in the phantoms, whose drawing tools are used.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy import ndimage

from tools.pretrain.grounds import SIZE, draw_ground
from vlsm_helpers.data.phantoms.drawing import (
    blob,
    blur,
    chance,
    grid,
    lobes,
    mix,
    noise,
    pick,
    shade,
    smoothstep,
    stroke,
)
from vlsm_helpers.data.prompts import PALETTE, colour_word

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


@dataclass(frozen=True)
class World:
    """Which scenes there are."""

    grey: float  # the share of grey pictures
    windows: float  # the share of those whose ground is a front with windows
    veils: bool  # whether a patch may be a pale veil, through which the ground is seen


SURFACES = World(grey=0.27, windows=0.0, veils=False)
WINDOWS = World(grey=0.45, windows=0.4, veils=True)


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


def draw(seed: int, world: World) -> Scene:
    """The scene `seed` of a world: one to five things; the same on every machine."""
    rng = np.random.Generator(np.random.Philox(key=[0x5CE7E, seed]))
    is_grey = chance(rng, world.grey)
    image, opening = draw_ground(rng, is_grey, world.windows)
    drawn, plan = [], None
    for _ in range(1 + int(rng.random() ** 1.3 * 5)):
        # now and then a second one of its kind, that only its place tells from the first
        if plan is None or not chance(rng, 0.3):
            plan = _plan(rng, is_grey)
            if opening is not None and chance(rng, 0.6):  # a veil behind the window
                plan = pick(rng, ROUNDED), "patch", plan[2] if chance(rng, 0.2) else "plain", None
        image, mask = _add(rng, image, plan, opening, world.veils)
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


def _plan(rng: np.random.Generator, is_grey: bool):
    """What a thing will be: (shape, relief, texture, colour); no colour means that of the ground, a little off."""
    shape = pick(rng, ROUNDED) if chance(rng, 0.62) else pick(rng, list(SHAPES))
    rounded = ("bump", "bump", "patch", "patch", "flat")
    relief = pick(rng, rounded if shape in ROUNDED else ("flat", "flat", "patch"))
    texture = pick(rng, ("plain", "plain", "plain", "striped", "spotted", "speckled"))
    own = _ink(rng, is_grey)
    return shape, relief, texture, None if chance(rng, 0.4) else own


def _add(rng: np.random.Generator, image: np.ndarray, plan, opening, veils: bool) -> tuple[np.ndarray, np.ndarray]:
    """The image with one more thing, and its mask; empty where nobody would see it. In openings most are behind the front."""
    shape, relief, texture, own = plan
    radius = 0.08 + 0.42 * rng.random() ** 1.5
    fills = opening is not None and relief == "patch" and chance(rng, 0.35)  # an opening from one of its sides
    if fills:
        radius = rng.uniform(0.3, 0.6)
    depth = _SHAPE_DEPTHS[shape](rng, _local(rng, radius, None if fills else opening))
    if fills or (opening is not None and chance(rng, 0.8)):
        depth = np.minimum(depth, np.clip(opening / radius, None, 1))
    if relief == "patch":
        depth = depth + rng.uniform(0, 0.12) * noise(rng, SIZE, 10)
    inside = depth > 0
    if not inside.any():
        return image, inside
    if own is None:
        tint = rng.uniform(-0.08, 0.08, 3) * (np.ptp(image[inside].mean(0)) > 0.02)
        own = np.clip(image[inside].mean(0) * (1 + rng.uniform(-0.3, 0.3) + tint), 0, 1)
    lay = partial(_stain, veils=veils) if relief == "patch" else {"flat": _lay_flat, "bump": _raise}[relief]
    changed = lay(rng, image, _textured(rng, own, texture), depth, radius)
    return changed, inside & (np.abs(changed - image)[inside].mean() > LEAST_CHANGE)


def _local(rng: np.random.Generator, radius: float, opening: np.ndarray | None = None):
    """A thing's own coordinates (v, u): its centre is (0, 0), its radius 1, its axis along u; it lies in an opening, if any."""
    y, x = grid(SIZE)
    spread = 0.95 - 0.6 * radius
    centre, angle = rng.uniform(-spread, spread, 2), rng.uniform(0, 2 * np.pi)
    if opening is not None:
        inside = np.flatnonzero(opening > 0.02)
        at = inside[rng.integers(len(inside))] if len(inside) else 0
        centre = y.flat[at], x.flat[at]
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


def _stain(rng, image, colours, depth, radius, veils):
    """A patch with soft borders through which the ground is seen; often it only darkens or lightens it."""
    edge = rng.uniform(0.02, 0.10) / radius
    cover = (rng.uniform(0.45, 0.95) * smoothstep(-edge, edge, depth))[..., None]
    if chance(rng, 0.5):
        colours = np.clip(image * pick(rng, (0.35, 0.5, 0.65, 1.4, 1.7)), 0, 1)
    elif veils and chance(rng, 0.5):
        cover, colours = cover * rng.uniform(0.4, 0.8), np.ones(3)
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
