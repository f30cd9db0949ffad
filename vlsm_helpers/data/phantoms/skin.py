"""Dermoscopy: skin of any tone with a pigmented lesion, under freckles, redness, hairs, ink, rulers and stickers."""

import numpy as np

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
    smoothstep,
    stroke,
)

BARE = np.array([0.97, 0.84, 0.76])  # skin without pigment or blood
MELANIN = np.array([0.42, 0.72, 1.05])  # absorption of a unit of pigment per channel, as an exponent
HAEMOGLOBIN = np.array([0.10, 0.62, 0.55])
BLUE_GREY = np.array([0.50, 0.56, 0.66])  # deep pigment
STICKERS = [(0.85, 0.75, 0.15), (0.15, 0.45, 0.30), (0.75, 0.20, 0.15), (0.20, 0.35, 0.65)]


def draw(stream: Stream, size: int, level: Difficulty) -> Drawing:
    """One dermoscopic image; the mask shows the lesion. Kinds: even, variegated, faint.

    Colour comes from how much melanin and blood lie over each pixel (Beer-Lambert), so a lesion is darker than its
    surroundings on every skin tone.
    """
    tone, blood = _skin(stream("skin"), size)
    rng = stream("lesion")
    kind = pick(rng, ("even", "even", "variegated", "variegated", "faint"))
    depth, radius = _outline(rng, size, kind)
    mask = annotate(rng, depth, radius, level.jitter)
    pigment, flush, deep = _lesion(rng, depth, kind, level.contrast)
    pigment = pigment * (
        0.8 + 0.25 * tone.mean()
    )  # light pigment is hardly visible on dark skin: its lesions are darker
    others = _freckles(stream("freckles"), size, level.lookalikes, mask)
    blood = blood + flush + _redness(stream("redness"), size, level.lookalikes)
    image = BARE * np.exp(-(tone + pigment + others)[..., None] * MELANIN - blood[..., None] * HAEMOGLOBIN)
    image = mix(image, BLUE_GREY * (0.25 + image.mean(-1, keepdims=True)), deep)
    image = _hairs(stream("hairs"), image)
    image = _ruler_and_ink(stream("ruler"), image, depth)
    return Drawing(_camera(stream("camera"), image, level), mask, "skin lesion", kind)


def _skin(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Melanin and blood of healthy skin, from the lightest to the darkest tones, with its fine furrows."""
    furrows = ridges(noise(rng, size, 22) + 0.3 * noise(rng, size, 9), 0.010) * rng.uniform(0.0, 0.06)
    tone = rng.uniform(0.05, 1.0) ** 1.3 * 1.7
    melanin = tone * (1 + 0.05 * fractal(rng, size, 6) + 0.03 * noise(rng, size, 36)) + furrows
    blood = rng.uniform(0.12, 0.55) * (1 + 0.18 * fractal(rng, size, 4) + 0.08 * noise(rng, size, 30))
    return melanin, blood


def _outline(rng: np.random.Generator, size: int, kind: str) -> tuple[np.ndarray, float]:
    """Depth inside the lesion, 1 at its centre, and its radius: even ones are rounder than variegated ones."""
    radius = rng.uniform(0.14, 0.52)
    spread = 0.82 - 0.85 * radius
    centre, angle = rng.uniform(-spread, spread, 2), rng.uniform(0, np.pi)
    stretch = rng.uniform(1.0, 1.2 if kind == "even" else 1.35)
    waves = lobes(rng, 0.06 if kind == "even" else 0.15, (2, 3, 4, 5, 6, 8))
    return blob(grid(size), centre, (radius * stretch, radius / stretch), angle, waves), radius


def _lesion(rng, depth: np.ndarray, kind: str, contrast: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Melanin, blood and deep pigment that a lesion adds: a network at its border, patches, globules, a veil."""
    size = len(depth)
    edge = rng.uniform(0.08, 0.22) + 0.15 * (1 - contrast)
    inside = smoothstep(-edge, edge, depth + 0.04 * noise(rng, size, 14))
    strength = rng.uniform(0.40, 0.6) if kind == "faint" else rng.uniform(0.75, 1.7)
    patchy = {"even": 0.12, "faint": 0.2, "variegated": 0.42}[kind]
    centre = rng.uniform(-0.25, 0.35) * np.clip(depth, 0, 1)
    network = ridges(noise(rng, size, 26), 0.014) * smoothstep(0.7, 0.1, depth) * rng.uniform(0.0, 0.4)
    globules = smoothstep(1.2, 1.9, noise(rng, size, 24)) * rng.uniform(0.0, 0.6)
    uneven = np.clip(1 + patchy * fractal(rng, size, 4) + centre + network + globules, 0.15, None)
    pigment = strength * (0.35 + 0.65 * contrast) * uneven * inside
    reddest = 0.5 if kind == "variegated" else 0.25
    flush = inside * rng.uniform(0.0, reddest) * smoothstep(-0.5, 1.5, noise(rng, size, 4))
    veil = 0.6 * (kind == "variegated") * chance(rng, 0.5)
    deep = veil * smoothstep(0.1, 0.5, depth) * smoothstep(0.3, 1.3, noise(rng, size, 4))
    return pigment, flush, deep


def _freckles(rng: np.random.Generator, size: int, most: int, mask: np.ndarray) -> np.ndarray:
    """Melanin of freckles and of small moles next to the lesion, which are not annotated."""
    scatter = smoothstep(1.9, 2.6, noise(rng, size, 12)) * rng.uniform(0.0, 0.45)
    for _ in range(int(rng.random() * (2 * most + 1))):
        radius, centre = rng.uniform(0.04, 0.10), rng.uniform(-0.95, 0.95, 2)
        depth = blob(grid(size), centre, (radius * 1.15, radius), rng.uniform(0, np.pi), lobes(rng, 0.12, (2, 3, 4)))
        strength = rng.uniform(0.25, 0.9)
        if not np.any(mask & (depth > -0.8)):
            scatter = scatter + strength * smoothstep(-0.2, 0.3, depth)
    return scatter


def _redness(rng: np.random.Generator, size: int, most: int) -> np.ndarray:
    """Blood in inflamed patches and in small vessels."""
    patches = smoothstep(0.8, 2.2, noise(rng, size, 3)) * rng.uniform(0.0, 0.3 + 0.25 * most)
    vessels = ridges(fractal(rng, size, 6, 2), 0.010) * smoothstep(0.2, 1.5, noise(rng, size, 3))
    return patches + rng.uniform(0.0, 0.35) * vessels


def _hairs(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Some hairs on half of the images, dark or fair, mostly along one direction."""
    size = len(image)
    number = int(rng.uniform(2, 18) * chance(rng, 0.5))
    main, dark = rng.uniform(0, np.pi), np.array([0.10, 0.07, 0.06]) + rng.uniform(0, 0.12)
    colour = dark if chance(rng, 0.85) else np.array([0.85, 0.75, 0.6])
    for _ in range(number):
        middle, angle = rng.uniform(-0.9, 0.9, 2), main + 0.5 * rng.uniform(-1, 1)
        half = rng.uniform(0.3, 1.1) * np.array([np.sin(angle), np.cos(angle)])
        across = stroke(grid(size), middle - half, middle + half, rng.uniform(-0.15, 0.15))
        width = rng.uniform(0.006, 0.013)
        image = mix(image, colour, rng.uniform(0.55, 0.9) * smoothstep(width * 2, width * 0.4, across))
    return image


def _ruler_and_ink(rng: np.random.Generator, image: np.ndarray, lesion: np.ndarray) -> np.ndarray:
    """Artefacts: a millimetre scale, a surgeon's purple mark, a round colour sticker."""
    size = len(image)
    y, x = grid(size)
    scale, ink, sticker = chance(rng, 0.12), chance(rng, 0.07), chance(rng, 0.08)
    edge, pitch = rng.uniform(0.78, 0.9), rng.uniform(0.09, 0.14)
    if scale:
        number = np.round(x / pitch)
        ticks = smoothstep(0.014, 0.006, np.abs(x - number * pitch))
        long = np.where(number % 5 == 0, 0.16, 0.08)
        image = mix(image, (0.08, 0.08, 0.1), 0.8 * ticks * (y > edge) * (y < edge + long))
    bearing, bend = rng.uniform(0, 2 * np.pi), rng.uniform(-0.2, 0.2)
    if ink:
        towards = np.array([np.sin(bearing), np.cos(bearing)])
        across = stroke(grid(size), 0.85 * towards + 0.3 * towards[::-1], 0.85 * towards - 0.3 * towards[::-1], bend)
        image = mix(image, (0.30, 0.18, 0.50), 0.55 * smoothstep(0.05, 0.02, across + 0.01 * noise(rng, size, 20)))
    corner, colour = np.array([pick(rng, (-1, 1)), pick(rng, (-1, 1))]), np.array(pick(rng, STICKERS))
    if sticker:
        disc = blob(grid(size), corner * rng.uniform(0.9, 1.05, 2), (0.42, 0.42))
        image = mix(image, colour, smoothstep(-0.03, 0.03, disc) * (lesion < 0))
    return image


def _camera(rng: np.random.Generator, image: np.ndarray, level: Difficulty) -> np.ndarray:
    """Light that fades to the corners, white balance, haze, blur, noise, a round aperture."""
    size = len(image)
    y, x = grid(size)
    reach = np.hypot(y, x)
    light = rng.uniform(0.92, 1.08) * (1 - rng.uniform(0.0, 0.3) * reach**2) * (1 + 0.03 * noise(rng, size, 2))
    gain = 1 + 0.8 * level.cast * rng.uniform(-1, 1, 3)
    haze, spread = rng.uniform(0, level.haze), rng.uniform(0.1, 0.8) * level.blur
    image = mix(image * light[..., None] * gain, (0.80, 0.76, 0.74), haze * smoothstep(-1.5, 1.5, noise(rng, size, 2)))
    image = blur(image, spread) + rng.uniform(-0.015, 0.015, image.shape)
    shape, radius = rng.random(), rng.uniform(0.98, 1.25)
    if shape < 0.22:
        image = image * smoothstep(radius + 0.02, radius - 0.02, reach)[..., None]
    return image
