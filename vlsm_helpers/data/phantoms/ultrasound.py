"""Breast ultrasound: layered tissue under speckle, benign and malignant tumours, and breasts without a tumour."""

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
    noise,
    ridges,
    smoothstep,
    wander,
)

NORMAL, BENIGN = 0.16, 0.60  # fractions of the images; the rest are malignant


def draw(stream: Stream, size: int, level: Difficulty) -> Drawing:
    """One ultrasound image; the mask shows the tumour. Kinds: benign, malignant, and normal, whose mask is empty.

    Brightness is built on the scanner's logarithmic scale, so shadows and speckle are added, not multiplied.
    """
    echo, ceiling = _tissue(stream, size)
    mask = np.zeros((size, size), bool)
    rng = stream("tumour")
    which = rng.random()
    kind = "normal" if which < NORMAL else "benign" if which < NORMAL + BENIGN else "malignant"
    place = rng.uniform(max(ceiling, -0.45), 0.3), rng.uniform(-0.6, 0.6)
    depth = None
    if kind != "normal":
        outline = _benign if kind == "benign" else _malignant
        echo, depth, radius = outline(rng, echo, place, level.contrast)
        mask = annotate(rng, depth, radius, level.jitter)
    echo = _lobules(stream("lobules"), echo, depth, level.lookalikes)
    echo = _shadows(stream("shadows"), echo)
    gray = _scanner(stream("scanner"), echo, level)
    return Drawing(np.repeat(gray[..., None], 3, axis=-1), mask, "tumor", kind)


def _tissue(stream: Stream, size: int) -> tuple[np.ndarray, float]:
    """Brightness of a breast without findings, and the depth y where its gland begins.

    From the top: bright skin, dark fat crossed by bright septa, brighter mottled gland, dark striped muscle.
    """
    rng = stream("tissue")
    y, _ = grid(size)
    skin = -0.93 + rng.uniform(0, 0.05) + 0.008 * wander(rng, size, 3)
    gland = rng.uniform(-0.72, -0.35) + 0.06 * wander(rng, size, 4) + 0.02 * wander(rng, size, 9)
    muscle = rng.uniform(0.35, 0.8) + rng.uniform(-0.15, 0.15) * np.linspace(-1, 1, size) + 0.03 * wander(rng, size, 4)
    fat = rng.uniform(0.30, 0.42) + 0.04 * fractal(rng, size, 5) + _septa(rng, size, 10, 0.018, 0.38)
    mottled = 0.07 * noise(rng, size, 14, 7) + 0.06 * noise(rng, size, 24, 10) + 0.05 * noise(rng, size, 3)
    glandular = rng.uniform(0.42, 0.56) + mottled + _septa(rng, size, 20, 0.018, 0.26)
    stripes = rng.uniform(0.26, 0.36) + 0.06 * noise(rng, size, 40, 5) + _septa(rng, size, 24, 0.014, 0.30)
    soft = 0.05 * noise(rng, size, 6)
    echo = fat + (glandular - fat) * smoothstep(-0.06, 0.06, y - gland + soft)
    echo = echo + (stripes - echo) * smoothstep(-0.03, 0.03, y - muscle + soft / 3)
    echo = echo + 0.3 * np.exp(-(((y - muscle) / 0.022) ** 2)) * smoothstep(-1, 0.5, noise(rng, size, 3, 5))
    echo = np.where(y < skin, 0.62 + 0.1 * noise(rng, size, 30, 4), echo)
    echo = echo - 0.25 * np.exp(-(((y - skin) / 0.012) ** 2))
    gain = rng.uniform(-0.06, 0.04) + 0.07 * noise(rng, size, 2) - rng.uniform(0.03, 0.24) * smoothstep(0.0, 1.1, y)
    return echo + gain, float(gland.mean())


def _septa(rng: np.random.Generator, size: int, rows: int, width: float, strength: float) -> np.ndarray:
    """Bright strands of connective tissue, near level, broken, of uneven strength."""
    y, _ = grid(size)
    wavy = y + 0.07 * noise(rng, size, 3, 2) + 0.05 * noise(rng, size, rows // 2, 4)
    strands = ridges(np.sin(np.pi * rows / 2 * wavy + noise(rng, size, 5, 3)), width)
    return strength * strands * smoothstep(0.0, 1.6, noise(rng, size, rows, 5))


def _beside(echo: np.ndarray, depth: np.ndarray) -> float:
    """Mean brightness of the tissue right around a blob."""
    return float(np.mean(echo[np.abs(depth + 0.25) < 0.25]))


def _column(depth: np.ndarray, softness: float) -> np.ndarray:
    """The region under a blob along the beam: 0 to 1, full from its lower edge downwards."""
    inside = smoothstep(0.0, 0.3, depth)
    passed = np.maximum.accumulate(inside, axis=0)
    return blur(passed * (1 - inside), softness)


def _benign(rng, echo: np.ndarray, place, contrast: float) -> tuple[np.ndarray, np.ndarray, float]:
    """A smooth oval lying flat, dark and even inside, thinly rimmed, with a bright band under it; some are cysts."""
    size = len(echo)
    radius = rng.uniform(0.11, 0.32)
    radii = radius * rng.uniform(1.1, 1.4), radius * rng.uniform(0.65, 0.9)
    depth = blob(grid(size), place, radii, rng.uniform(-0.3, 0.3), lobes(rng, 0.05, (2, 3, 4)))
    cyst = chance(rng, 0.25)
    inside = smoothstep(-0.02, 0.10 + 0.15 * (1 - contrast), depth)
    own = (0.06 if cyst else rng.uniform(0.18, 0.32)) + 0.03 * noise(rng, size, 12)
    around = _beside(echo, depth)
    darkness = contrast**0.5 if cyst else contrast * rng.uniform(0.55, 1.0)
    own = around - (max(around, 0.4) - own) * darkness
    below = _column(depth, 0.03) * np.exp(-np.clip(grid(size)[0] - place[0], 0, None) / 0.6)
    echo = echo + rng.uniform(0.14, 0.26) * (1.5 if cyst else 1) * contrast * below
    rim = np.exp(-(((depth + 0.06) / 0.07) ** 2))
    echo = echo + rng.uniform(0.03, 0.14) * rim
    return echo + (own - echo) * inside, depth, radius


def _malignant(rng, echo: np.ndarray, place, contrast: float) -> tuple[np.ndarray, np.ndarray, float]:
    """An irregular or spiculated mass, often taller than wide, with an ill-defined edge and a shadow under it."""
    size = len(echo)
    radius = rng.uniform(0.15, 0.38)
    tall = rng.uniform(0.8, 1.3)
    waves = lobes(rng, 0.22, (2, 3, 4, 5)) + lobes(rng, 0.07, (6, 8, 9, 11, 13))
    depth = blob(grid(size), place, (radius / tall**0.5, radius * tall**0.5), rng.uniform(-0.4, 0.4), waves)
    depth = depth + rng.uniform(0.02, 0.12) * noise(rng, size, 13) + 0.04 * noise(rng, size, 24)
    edge = 0.12 + 0.2 * (1 - contrast)
    inside = smoothstep(-edge, edge, depth)
    around = _beside(echo, depth)
    own = rng.uniform(0.12, 0.24) + 0.05 * noise(rng, size, 10) + 0.04 * noise(rng, size, 20)
    own = around - (max(around, 0.4) - own) * contrast * rng.uniform(0.6, 1.0)
    shadow = _column(depth, 0.05) * rng.uniform(0.05, 0.30)
    halo = np.exp(-(((depth + 0.18) / 0.16) ** 2)) * smoothstep(-1, 1, noise(rng, size, 5))
    echo = echo - shadow + rng.uniform(0.02, 0.12) * halo
    return echo + (own - echo) * inside, depth, radius


def _lobules(rng: np.random.Generator, echo: np.ndarray, tumour: np.ndarray | None, most: int) -> np.ndarray:
    """Fat lobules and the like: flat dark ovals that resemble a tumour but are not annotated."""
    size = len(echo)
    for _ in range(int(rng.random() * (3 * most + 1))):
        radius, centre = rng.uniform(0.08, 0.22), (rng.uniform(-0.7, 0.6), rng.uniform(-0.9, 0.9))
        radii = radius * rng.uniform(1.3, 1.9), radius * rng.uniform(0.4, 0.6)
        depth = blob(grid(size), centre, radii, rng.uniform(-0.35, 0.35), lobes(rng, 0.1, (2, 3, 4)))
        strength, rim = rng.uniform(0.06, 0.18), rng.uniform(0.02, 0.08)
        if tumour is not None and np.any((tumour > -0.3) & (depth > -0.3)):
            continue
        echo = echo - strength * smoothstep(-0.1, 0.4, depth) + rim * np.exp(-(((depth + 0.1) / 0.12) ** 2))
    return echo


def _shadows(rng: np.random.Generator, echo: np.ndarray) -> np.ndarray:
    """Poor contact of the probe, or dense strands that absorb the beam: columns that darken downwards."""
    size = len(echo)
    y, x = grid(size)
    lean = rng.uniform(-0.15, 0.15) * y
    dark = smoothstep(0.6, 2.4, np.interp(x + lean, x[0], wander(rng, size, 7))) * smoothstep(-1, 0.6, y)
    side = rng.uniform(0, 0.35) * chance(rng, 0.3) * smoothstep(0.5, 1.0, x * (1 if chance(rng, 0.5) else -1))
    return echo - rng.uniform(0, 0.3) * dark - side


def _scanner(rng: np.random.Generator, echo: np.ndarray, level: Difficulty) -> np.ndarray:
    """The scanner's image: speckle (the logarithm of a Rayleigh field, wider than high), gain, haze, blur."""
    size = len(echo)
    wave = np.hypot(noise(rng, size, 72, 44), noise(rng, size, 72, 44))
    speckle = np.log(wave + 0.05) - 0.06
    gray = echo + rng.uniform(0.07, 0.11) * np.clip(speckle, -1.3, 1.3)
    gray = gray + level.cast * rng.uniform(-0.6, 0.6)
    haze = rng.uniform(0, level.haze)
    gray = gray + haze * (0.42 - gray) * smoothstep(-1, 1, noise(rng, size, 2))
    gray = blur(gray, 0.007 + rng.uniform(0, 0.6) * level.blur) + rng.uniform(-0.012, 0.012, gray.shape)
    return 0.30 + 1.3 * (gray - 0.38)
