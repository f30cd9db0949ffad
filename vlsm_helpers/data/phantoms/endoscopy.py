"""Colonoscopy: a lit tube of mucosa with folds and vessels, one or two shaded polyps, and distractors."""

from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from vlsm_helpers.data.phantoms.drawing import (
    Difficulty,
    Drawing,
    Stream,
    annotate,
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

MUCOSA = [(0.80, 0.28, 0.20), (0.84, 0.33, 0.28), (0.78, 0.29, 0.13), (0.76, 0.36, 0.18), (0.76, 0.22, 0.17)]
BLOOD = np.array([0.75, 0.30, 0.32])  # fraction of the light that a vessel transmits, per channel
STOOL = [(0.72, 0.42, 0.10), (0.52, 0.32, 0.10), (0.60, 0.30, 0.10)]
LAMP = 0.35  # distance of the lamp from the lens
INSTRUMENTS = 0.07  # the fraction of images with an instrument


@dataclass(frozen=True)
class Surface:
    """The lit surface: colour (size, size, 3), light that falls on it, height of its bumps (half-widths)."""

    albedo: np.ndarray
    light: np.ndarray
    height: np.ndarray
    lamp: np.ndarray  # position of the lamp relative to the lens, (y, x)

    @property
    def size(self) -> int:
        """Side in pixels."""
        return len(self.light)

    def seen(self) -> np.ndarray:
        """Its image, float (size, size, 3): a sensor's response saturates."""
        return 1 - np.exp(-1.9 * self.albedo * (self.light * shade(self.height, self.lamp) ** 0.8)[..., None])


def draw(stream: Stream, size: int, level: Difficulty) -> Drawing:
    """One colonoscopy image; the mask shows the polyps. Kinds: sessile, flat, pedunculated."""
    return draw_two(stream, size, level, INSTRUMENTS)[0]


def draw_two(stream: Stream, size: int, level: Difficulty, instruments: float) -> tuple[Drawing, np.ndarray]:
    """The same scene with an instrument at the probability `instruments`; also the instrument's mask, bool (size, size)."""
    black, inside = _frame(stream("frame"), size)
    surface = _wall(stream, size)
    kind = pick(stream("kind"), ("sessile", "sessile", "sessile", "flat", "pedunculated"))
    surface, mask = _polyps(stream, surface, kind, inside > 0.5, level)
    surface = _lookalikes(stream("lookalikes"), surface, mask, level.lookalikes)
    surface = _residue(stream("residue"), surface)
    image = surface.seen() + _glints(stream("glints"), surface)[..., None]
    image = _bubbles(stream("bubbles"), image)
    image, hidden = _instrument(stream("instrument"), image, instruments)
    image = mix(black, _camera(stream("camera"), image, level), inside)
    shown = inside > 0.5
    return Drawing(image, mask & shown & ~hidden, "polyp", kind), hidden & shown


def _polyps(stream: Stream, surface: Surface, kind: str, inside: np.ndarray, level: Difficulty):
    """The wall with one polyp, sometimes two, and the mask that an annotator would draw, bool (size, size)."""
    depths, mask = [], np.zeros_like(inside)
    steep = (0.25 if kind == "flat" else 0.6) * (0.5 + level.contrast / 2)
    for number in range(1 + chance(stream("number"), 0.15)):
        rng = stream(f"polyp {number}")
        depth, radius = _polyp(rng, kind, inside, depths)
        depths.append(depth)
        mask |= annotate(rng, depth, radius, level.jitter)
        surface = _raise(rng, surface, depth, radius, radius * steep)
        surface = replace(surface, albedo=_polyp_skin(rng, surface.albedo, depth, level.contrast))
    return surface, mask


def _wall(stream: Stream, size: int) -> Surface:
    """The empty colon: a tube that darkens towards the lumen, with haustral folds, redness and vessels."""
    rng = stream("wall")
    y, x = grid(size)
    away = rng.uniform(0.0, 0.7) if chance(rng, 0.6) else rng.uniform(1.1, 1.5)
    bearing = rng.uniform(0, 2 * np.pi)
    lumen = away * np.sin(bearing), away * np.cos(bearing)
    squash = rng.uniform(0.8, 1.25)
    dy, dx = (y - lumen[0]) * squash, (x - lumen[1]) / squash
    reach = np.hypot(dy, dx) * (1 + 0.10 * noise(rng, size, 3)) + 0.02
    # Along the tube a fold appears as a ring: dark just behind its crest, bright on its face, fading outwards.
    phase = np.log(reach) * rng.uniform(1.2, 2.4) + 0.14 * noise(rng, size, 4) + rng.uniform(0, 1)
    phase += 0.12 * np.cos(3 * np.arctan2(dy, dx) + rng.uniform(0, 2 * np.pi))
    step = phase - np.floor(phase)
    crest = smoothstep(0, 0.12, step)
    stairs = np.floor(phase) + crest - np.max(phase)
    strength = rng.uniform(0.7, 1.5) * smoothstep(-1.0, 1.0, noise(rng, size, 3))
    light = 1 - np.exp(-((reach / rng.uniform(0.25, 0.5)) ** 1.5))
    light *= np.exp(0.22 * np.clip(stairs, -4, 0)) * (1 + strength * (crest * (1 - step) ** 2 - 0.25))
    light *= rng.uniform(0.9, 1.5) * np.exp(0.22 * noise(rng, size, 2)) * (1.12 - 0.25 * (y**2 + x**2))
    albedo = np.array(pick(rng, MUCOSA)) * rng.uniform(0.93, 1.07, 3)
    redness = 0.35 * noise(rng, size, 3) + 0.12 * fractal(rng, size, 9)
    vessels = _vessels(stream("vessels"), size)
    albedo = albedo * BLOOD ** (0.45 * redness + vessels)[..., None]
    return Surface(albedo, light, np.zeros((size, size)), lamp=rng.uniform(-LAMP, LAMP, 2))


def _vessels(rng: np.random.Generator, size: int) -> np.ndarray:
    """The amount of blood at each pixel: a few wide branches and many thin ones, in patches."""
    wide = ridges(fractal(rng, size, 4, 2), 0.014) * smoothstep(-0.2, 1.0, noise(rng, size, 3))
    thin = ridges(fractal(rng, size, 8, 2), 0.009) * smoothstep(-0.2, 1.0, noise(rng, size, 4))
    return rng.uniform(0.05, 0.55) * (0.5 * wide + 0.5 * thin)


def _polyp(rng, kind: str, inside: np.ndarray, others: list[np.ndarray]) -> tuple[np.ndarray, float]:
    """Depth inside a polyp, 1 at its centre, and its radius; a second one is smaller and at a distance from the first."""
    size = len(inside)
    radius = rng.uniform(0.14, 0.42) * (0.6 if others else 1.0)
    for _ in range(20):
        centre = rng.uniform(-0.62, 0.62, 2)
        row, column = ((centre + 1) / 2 * size).astype(int)
        if inside[row, column] and all(other[row, column] < -1.0 for other in others):
            break
    stretch, angle = rng.uniform(1.0, 1.35), rng.uniform(0, np.pi)
    waves = lobes(rng, 0.09, (2, 3, 4, 5))
    depth = blob(grid(size), centre, (radius * stretch, radius / stretch), angle, waves)
    if kind == "pedunculated":
        # The stalk leaves along the long axis, towards the nearer border.
        reach = radius * rng.uniform(1.7, 2.3)
        side = np.sign(centre[0] * np.sin(angle) + centre[1] * np.cos(angle)) or 1.0
        foot = centre + side * reach * np.array([np.sin(angle), np.cos(angle)])
        stalk = 1 - stroke(grid(size), centre, foot, radius * rng.uniform(-0.4, 0.4)) / (radius * 0.42)
        depth = np.maximum(depth, stalk * 0.42)
    return depth, radius


def _raise(rng: np.random.Generator, surface: Surface, depth: np.ndarray, radius: float, height: float) -> Surface:
    """A rounded bump on the wall: even light on top, a dark crease around it, a shadow on the side away from the lamp."""
    shift = -surface.lamp * radius * rng.uniform(0.5, 0.9) * surface.size / 2 / LAMP
    shadow = smoothstep(-0.15, 0.3, ndimage.shift(depth, shift, order=1, mode="nearest"))
    crease = np.exp(-((np.clip(-depth, 0, None) / 0.10) ** 2))
    cover = blur(np.where(depth < 0, np.maximum(0.45 * shadow, 0.35 * crease), 0.0), 0.012)
    inside = smoothstep(-0.04, 0.06, depth)
    even = np.sum(surface.light * inside) / np.sum(inside)
    own = 0.1 + 0.8 * even + 0.1 * blur(surface.light, 0.2)
    light = surface.light * (1 - inside) * (1 - cover) + own * inside
    rise = np.clip(depth, 0, 1)
    dome = height * np.sqrt(rise * (2 - rise))  # steep at the rim, level on top
    return replace(surface, light=light, height=np.maximum(surface.height, dome))


def _polyp_skin(rng: np.random.Generator, albedo: np.ndarray, depth: np.ndarray, contrast: float) -> np.ndarray:
    """A polyp's own colour, redder or paler than the wall, with a grain of pits."""
    size = len(depth)
    inside = smoothstep(-0.03, 0.07 + 0.1 * (1 - contrast), depth)
    blood = pick(rng, (-0.3, -0.2, 0.3, 0.5)) * rng.uniform(0.7, 1.2) * contrast
    grain = noise(rng, size, 34) * 0.10 + noise(rng, size, 16) * rng.uniform(0.0, 0.16)
    own = albedo * BLOOD ** (blood + grain * (0.5 + contrast / 2))[..., None]
    return mix(albedo, own, inside)


def _lookalikes(rng: np.random.Generator, surface: Surface, mask: np.ndarray, most: int) -> Surface:
    """Distractors under the same light: thin folds of the wall, and bumps of residue."""
    at = grid(surface.size)
    for _ in range(int(rng.random() * (most + 1))):
        centre, bearing, radius = rng.uniform(-0.75, 0.75, 2), rng.uniform(0, np.pi), rng.uniform(0.10, 0.18)
        is_fold, waves, bend = chance(rng, 0.55), lobes(rng, 0.12, (2, 3, 4)), rng.uniform(-0.14, 0.14)
        colour, roughness = np.array(pick(rng, STOOL)) * rng.uniform(0.8, 1.2), 1 + 0.2 * noise(rng, surface.size, 24)
        along = np.array([np.sin(bearing), np.cos(bearing)]) * radius * rng.uniform(1.6, 2.8)
        if is_fold:
            depth = 1 - stroke(at, centre - along, centre + along, bend) / (radius * 0.7)
        else:
            depth = blob(at, centre, (radius * 1.1, radius * 0.85), bearing, waves)
        if np.any(mask & (depth > -0.15)):
            continue
        surface = _raise(rng, surface, depth, radius, radius * 0.4)
        if not is_fold:
            rough = mix(surface.albedo, colour * roughness[..., None], 0.8 * smoothstep(-0.05, 0.25, depth))
            surface = replace(surface, albedo=rough)
    return surface


def _residue(rng: np.random.Generator, surface: Surface) -> Surface:
    """Sometimes a thin film of yellow or brown residue, where the bowel was not cleaned."""
    where = noise(rng, surface.size, 4) + 0.5 * noise(rng, surface.size, 14)
    amount = rng.uniform(0.3, 0.8) * chance(rng, 0.3)
    return replace(surface, albedo=mix(surface.albedo, pick(rng, STOOL), amount * smoothstep(1.3, 2.0, where)))


def _glints(rng: np.random.Generator, surface: Surface) -> np.ndarray:
    """Wet tissue mirrors the lamp: clusters of small streaks where it is lit, and spots on top of bumps."""
    size = surface.size
    wet = smoothstep(0.3, 1.4, noise(rng, size, 4)) * smoothstep(0.4, 0.8, surface.light)
    streaks = smoothstep(1.5, 2.3, noise(rng, size, 30, 18) + 0.5 * noise(rng, size, 44)) * wet
    top = smoothstep(0.75, 1.0, surface.height / surface.height.max())
    spots = smoothstep(1.2, 1.9, noise(rng, size, 16, 13)) * top
    return rng.uniform(0.4, 0.9) * np.maximum(streaks, spots)


def _bubbles(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Sometimes a few bubbles: thin bright rings with a glint each."""
    size = len(image)
    centre, number = rng.uniform(-0.7, 0.7, 2), int(rng.uniform(2, 7)) * chance(rng, 0.15)
    for _ in range(number):
        place, radius = centre + rng.uniform(-0.22, 0.22, 2), rng.uniform(0.02, 0.05)
        depth = blob(grid(size), place, (radius, radius))
        image = mix(image, (0.95, 0.9, 0.85), 0.4 * np.exp(-((depth / 0.25) ** 2)))
        glint = blob(grid(size), place - radius / 3, (radius / 2, radius / 2))
        image = mix(image, (1.0, 1.0, 1.0), 0.8 * smoothstep(0.4, 0.7, glint))
    return image


def _instrument(rng: np.random.Generator, image: np.ndarray, probability: float) -> tuple[np.ndarray, np.ndarray]:
    """Sometimes a catheter that comes in from the border; also the pixels that it hides, bool (size, size)."""
    size = len(image)
    bearing, bend = rng.uniform(0, 2 * np.pi), rng.uniform(-0.15, 0.15)
    tip, width = rng.uniform(-0.4, 0.4, 2), rng.uniform(0.05, 0.09)
    colour = np.array(pick(rng, [(0.75, 0.78, 0.8), (0.35, 0.5, 0.75), (0.85, 0.85, 0.8)]))
    if not chance(rng, probability):
        return image, np.zeros((size, size), bool)
    across = stroke(grid(size), tip, 1.6 * np.array([np.sin(bearing), np.cos(bearing)]), bend) / width
    round_ = np.sqrt(np.clip(1 - across**2, 0, 1))
    return mix(image, colour * (0.25 + 0.75 * round_[..., None]), smoothstep(1.05, 0.85, across)), across < 1


def _camera(rng: np.random.Generator, image: np.ndarray, level: Difficulty) -> np.ndarray:
    """White balance, sometimes narrow-band light, a veil, a little blur and noise."""
    size = len(image)
    gain = 1 + level.cast * rng.uniform(-1, 1, 3)
    haze, spread, narrow = rng.uniform(0, level.haze), rng.uniform(0.2, 1) * level.blur, rng.random()
    if narrow < 0.6 * level.cast:  # about 6 % of the medium images
        red, green, blue = np.moveaxis(image, -1, 0)
        image = np.stack([0.35 * red + 0.45 * green, 0.25 * red + 0.85 * green, 0.3 * red + 0.8 * blue], -1)
    veil = mix(image * gain, (0.72, 0.55, 0.5), haze * smoothstep(-1.5, 1.5, noise(rng, size, 2)))
    return blur(veil, spread) + rng.uniform(-0.02, 0.02, image.shape)


def _frame(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The black surround of an endoscope's image: its colour, and 1 inside of cut corners, a disc, or everywhere."""
    y, x = grid(size)
    shape, width, height = rng.random(), rng.uniform(0.9, 1.0), rng.uniform(0.95, 1.0)
    corner, disc = rng.uniform(1.5, 1.75), rng.uniform(1.0, 1.12)
    has_inset, black = chance(rng, 0.15), rng.uniform(0, 0.06, 3)
    octagon = np.maximum(np.maximum(np.abs(x) / width, np.abs(y) / height), (np.abs(x) + np.abs(y)) / corner)
    reach = octagon if shape < 0.65 else np.hypot(x, y) / disc if shape < 0.9 else np.zeros((size, size))
    inset = (x < -0.36) & (y > 0.36) & has_inset  # the small map of the scope's position
    return np.broadcast_to(black, (size, size, 3)), smoothstep(1.0, 0.975, reach) * ~inset
