"""Chest X-ray: a patient in a slightly different pose each time, with a mass, a consolidation or an effusion.

Anatomy is placed in the patient's own coordinates: v runs down from the neck (-1) to the belly (1), u from the
picture's left to its right, w = |u| from the midline outwards. `Chest` carries what the parts need of one another.
"""

from dataclasses import dataclass

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
    pick,
    smoothstep,
    stroke,
)

FINDINGS = ("lung mass", "consolidation", "pleural effusion")
PLAN = 64  # side of the grid on which a finding's position is chosen, so that it is the same at every image size


@dataclass(frozen=True)
class Chest:
    """The geometry in the patient's units: v and u of every pixel, and its depth inside lungs and heart (< 0 outside)."""

    v: np.ndarray
    u: np.ndarray
    lungs: dict[int, np.ndarray]  # by side: -1 is the left of the image, 1 the right
    heart: np.ndarray
    apex: float
    base: dict[int, float]  # height of the diaphragm's dome by side
    width: float  # from the midline to the ribs

    @property
    def size(self) -> int:
        """Side in pixels."""
        return len(self.v)

    def field(self, side: int) -> np.ndarray:
        """Bool (size, size): the visible lung field, without the part behind the heart."""
        return (self.lungs[side] > 0) & (self.heart < 0)


def draw(stream: Stream, size: int, level: Difficulty) -> Drawing:
    """One chest X-ray; the mask shows all of the one finding that its noun names. Kinds: the findings.

    Now and then the other lung has another finding, which only a prompt can tell from the one that is meant.
    """
    chest = _chest(stream("patient"), size)
    plan = _chest(stream("patient"), PLAN)
    rng = stream("finding")
    side, target, other = pick(rng, (-1, 1)), pick(rng, FINDINGS), pick(rng, FINDINGS)
    mask, shadow = _finding(stream("target"), chest, plan, side, target, level.jitter)
    if chance(rng, 0.1 * level.lookalikes) and other != target:
        shadow = shadow + 0.9 * _finding(stream("other"), chest, plan, -side, other, 0.0)[1]
    dense = _soft_tissue(stream("tissue"), chest) + _bones(stream("bones"), chest) + _vessels(stream("vessels"), chest)
    dense = dense + level.contrast * shadow
    dense = dense + _nuisances(stream("nuisances"), chest, level.lookalikes)
    return Drawing(_film(stream("film"), dense, level), mask, target, target)


def _chest(rng: np.random.Generator, size: int) -> Chest:
    """The patient's pose and build: zoom, shift, tilt, breadth, depth of the breath."""
    y, x = grid(size)
    zoom, tilt = rng.uniform(0.85, 1.25), rng.uniform(-0.10, 0.10)
    y, x = (y - rng.uniform(-0.2, 0.2)) / zoom, (x - rng.uniform(-0.2, 0.2)) / zoom
    v, u = y * np.cos(tilt) - x * np.sin(tilt), y * np.sin(tilt) + x * np.cos(tilt)
    u = u / rng.uniform(0.85, 1.1)
    apex, breath, width = rng.uniform(-0.92, -0.78), rng.uniform(0.25, 0.62), rng.uniform(0.74, 0.84)
    base = {-1: breath - rng.uniform(0.02, 0.10), 1: breath}
    heart = _heart(rng, v, u, breath)
    return Chest(v, u, {s: _lung(v, s * u, apex, base[s], width) for s in (-1, 1)}, heart, apex, base, width)


def _lung(v: np.ndarray, w: np.ndarray, apex: float, base: float, width: float) -> np.ndarray:
    """Depth inside a lung, in patient's units: round apex, straight mediastinal side, domed base with a sharp angle."""
    t = np.clip((v - apex) / (base + 0.25 - apex), 0, 1)
    outer = 0.14 + (width - 0.14) * (1 - (1 - t) ** 2.3) ** 0.5
    inner = 0.10 + 0.05 * smoothstep(-0.3, 0.3, v)
    floor = _dome(w, base)
    sides = np.stack([w - inner, outer - w, (floor - v) * 0.8, v - apex])
    return -0.025 * np.log(np.sum(np.exp(-np.clip(sides, -1.5, 1.5) / 0.025), axis=0))


def _dome(w: np.ndarray, base: float) -> np.ndarray:
    """Height v of the diaphragm: a dome that falls steeply to the ribs and gently to the heart."""
    return base + np.where(w > 0.42, 1.5, 0.25) * (w - 0.42) ** 2


def _heart(rng: np.random.Generator, v: np.ndarray, u: np.ndarray, breath: float) -> np.ndarray:
    """Depth inside the heart's shadow with the aortic knob: ventricle on the right of the image, atrium on the left."""
    grown = rng.uniform(0.9, 1.25)
    low = breath - 0.20
    at, slant = (v, u), rng.uniform(0.45, 0.75)
    ventricle = blob(at, (low, 0.17), (0.36 * grown, 0.25 * grown), slant, lobes(rng, 0.04, (2, 3)))
    atrium = blob(at, (low - 0.03, -0.07), (0.16 * grown, 0.25 * grown), rng.uniform(-0.1, 0.1))
    trunk = blob(at, (low - 0.34, 0.08), (0.13, 0.17))
    knob = blob(at, (low - 0.56, 0.08), (0.10, 0.12))
    return 0.2 * np.maximum(np.maximum(ventricle, atrium), np.maximum(trunk, knob))


def _soft_tissue(rng: np.random.Generator, chest: Chest) -> np.ndarray:
    """Density of all but bones: trunk, neck and arms, the air in lungs and windpipe, heart, mediastinum, belly."""
    v, u, w, size = chest.v, chest.u, np.abs(chest.u), chest.size
    flank = chest.width + 0.14 + 0.9 * smoothstep(-0.2, -0.9, v) ** 1.5
    shoulder = v + 1.02 - 0.5 * np.clip(w - 0.24, 0, None) ** 1.5
    trunk = smoothstep(0.0, 0.10, flank - w) * smoothstep(-0.02, 0.06, np.maximum(shoulder, 0.27 - w))
    body = trunk * (0.50 + 0.10 * rng.random() + 0.03 * noise(rng, size, 3))
    lung = np.maximum(chest.lungs[-1], chest.lungs[1])
    air = smoothstep(-0.012, 0.03, lung) * (0.75 + 0.25 * smoothstep(0.0, 0.2, lung))
    body = body - rng.uniform(0.34, 0.42) * air * (1 + 0.06 * fractal(rng, size, 6))
    belly = smoothstep(-0.01, 0.05, v - _dome(w, min(chest.base.values()))) * (1 - air)
    middle = smoothstep(0.16, 0.07, w - 0.05 * smoothstep(-0.6, 0.2, v)) * smoothstep(-1.1, -0.7, v)
    heart = smoothstep(-0.012, 0.05, chest.heart)
    body = body + trunk * (0.16 * belly + np.maximum(0.17 * middle, rng.uniform(0.24, 0.32) * heart))
    windpipe = smoothstep(0.045, 0.02, np.abs(u + 0.01)) * smoothstep(-0.28, -0.40, v)
    bronchi = [smoothstep(0.035, 0.01, stroke((v, u), (-0.32, -0.01), (-0.18, s * 0.16))) for s in (-1, 1)]
    bubble = rng.uniform(0, 0.2) * smoothstep(0, 0.4, blob((v, u), (chest.base[1] + 0.17, 0.42), (0.16, 0.09)))
    breasts = [smoothstep(-0.1, 0.3, blob((v, u), (0.25, s * 0.5), (0.38, 0.36))) for s in (-1, 1)]
    body = body + rng.uniform(0, 0.09) * np.maximum(*breasts) * trunk
    return body - 0.12 * np.maximum(windpipe, 0.7 * np.maximum(*bronchi)) - bubble


def _bones(rng: np.random.Generator, chest: Chest) -> np.ndarray:
    """Density of spine, ribs (behind: falling outwards; in front: fainter, rising), collar and shoulder blades."""
    v, w, at = chest.v, np.abs(chest.u), (chest.v, chest.u)
    strength, start, pitch = rng.uniform(0.6, 1.2), rng.uniform(0, 1), rng.uniform(0.17, 0.20)
    cage = smoothstep(0.02, -0.02, w - _cage(chest)) * smoothstep(chest.apex - 0.06, chest.apex + 0.05, v)
    behind = _bars(v + 0.30 * w - 0.85 * w**2, pitch, start) * smoothstep(0.06, 0.12, w)
    ahead = _bars(v - 0.95 * (w - 0.8) ** 2 + 0.1 * w, pitch * 1.1, start + 0.4) * smoothstep(0.30, 0.45, w)
    ribs = (behind + 0.55 * ahead) * cage * smoothstep(0.85, 0.6, v)
    discs = 0.5 + 0.5 * np.cos(2 * np.pi * v / 0.125)
    spine = smoothstep(0.10, 0.075, w) * (0.03 + 0.05 * discs) * smoothstep(-1.2, -0.9, v)
    rise, bend = rng.uniform(0.0, 0.14), rng.uniform(0.02, 0.06)
    dense = strength * ribs + spine
    for s in (-1, 1):
        collar = stroke(at, (chest.apex + 0.24, s * 0.09), (chest.apex + 0.16 - rise, s * 0.80), -s * bend)
        blade = stroke(at, (chest.apex + 0.2, s * 0.84), (-0.1, s * 0.72), s * 0.05)
        dense = dense + strength * (0.09 * _bone(collar, 0.035) + 0.04 * smoothstep(0.05, 0.0, blade))
    return dense


def _cage(chest: Chest) -> np.ndarray:
    """Horizontal extent of the ribs at each height, in patient's units."""
    t = np.clip((chest.v - chest.apex + 0.05) / (chest.base[1] + 0.30 - chest.apex), 0, 1)
    return 0.14 + (chest.width - 0.10) * (1 - (1 - t) ** 2.3) ** 0.5


def _bone(across: np.ndarray, half: float) -> np.ndarray:
    """A bone's density by the distance from its axis: its edges are denser than its middle."""
    return smoothstep(half * 1.15, half * 0.85, across) * (0.6 + 0.4 * (across / half) ** 2)


def _bars(height: np.ndarray, pitch: float, start: float) -> np.ndarray:
    """Ribs one below the other, `pitch` apart: density by the height on the course that ribs take."""
    turn = height / pitch + start
    return 0.085 * _bone(np.abs(turn - np.round(turn)) * pitch, 0.036)


def _vessels(rng: np.random.Generator, chest: Chest) -> np.ndarray:
    """Density of the hila and of the lung's vessels, which fan out from them and thin out."""
    dense = np.zeros_like(chest.v)
    root = chest.base[1] - 0.52
    for side in (-1, 1):
        hilum = root + rng.uniform(-0.03, 0.03), side * 0.19
        distance = np.sqrt((chest.v - hilum[0]) ** 2 + (chest.u - hilum[1]) ** 2)
        for angle in np.linspace(-1.25, 1.25, 7) + rng.uniform(-0.12, 0.12, 7):
            reach = rng.uniform(0.3, 0.5)
            tip = hilum[0] + reach * np.sin(angle), hilum[1] + side * reach * np.cos(angle)
            away = distance / reach
            across = stroke((chest.v, chest.u), hilum, tip, rng.uniform(-0.06, 0.06))
            width = 0.030 * np.clip(1 - 0.75 * away, 0.25, 1)
            dense = np.maximum(dense, np.exp(-((across / width) ** 2)) * np.clip(1.1 - 0.8 * away, 0.2, 1))
        root_shadow = blob((chest.v, chest.u), hilum, (0.09, 0.13), 0.0)
        dense = np.maximum(dense, 1.1 * smoothstep(-0.3, 0.6, root_shadow))
    return rng.uniform(0.07, 0.13) * dense


def _finding(rng, chest: Chest, plan: Chest, side: int, noun: str, jitter: float) -> tuple[np.ndarray, np.ndarray]:
    """Mask, bool, and density of one finding in the lung of this side."""
    draw_one = {"lung mass": _mass, "consolidation": _consolidation, "pleural effusion": _effusion}[noun]
    depth, density = draw_one(rng, chest, side, _somewhere(rng, plan, side))
    soft = smoothstep(-0.015, 0.02, np.minimum(chest.lungs[side], -chest.heart + 0.02))
    return annotate(rng, depth, 1.0, jitter) & chest.field(side), density * soft


def _somewhere(rng: np.random.Generator, plan: Chest, side: int) -> tuple[float, float]:
    """A position (v, u) in the lung, away from its border and the heart, or the best of 40 attempts."""
    free = np.minimum(plan.lungs[side], -plan.heart)
    best, place = -np.inf, (0.0, side * 0.4)
    for _ in range(40):
        v, u = rng.uniform(plan.apex, plan.base[side]), side * rng.uniform(0.15, plan.width)
        nearest = np.argmin((plan.v - v) ** 2 + (plan.u - u) ** 2)
        if free.flat[nearest] > best:
            best, place = free.flat[nearest], (v, u)
        if best > 0.08:
            break
    return place


def _mass(rng: np.random.Generator, chest: Chest, side: int, place) -> tuple[np.ndarray, np.ndarray]:
    """A round, well-defined shadow inside the lung."""
    radius, waves = rng.uniform(0.12, 0.22), lobes(rng, 0.06, (2, 3, 4, 5))
    depth = blob((chest.v, chest.u), place, (radius * 1.08, radius), rng.uniform(0, np.pi), waves)
    return depth * radius, rng.uniform(0.22, 0.32) * smoothstep(-0.12, 0.25, depth)


def _consolidation(rng: np.random.Generator, chest: Chest, side: int, place) -> tuple[np.ndarray, np.ndarray]:
    """A cloudy patch with a ragged edge."""
    radius, waves = rng.uniform(0.22, 0.38), lobes(rng, 0.14, (2, 3, 4, 5))
    depth = blob((chest.v, chest.u), place, (radius * 1.15, radius * 0.85), rng.uniform(0, np.pi), waves)
    ragged = depth + 0.10 * noise(rng, chest.size, 8) + 0.06 * noise(rng, chest.size, 16)
    cloudy = 1 + 0.16 * fractal(rng, chest.size, 8)
    return ragged * radius, rng.uniform(0.20, 0.32) * smoothstep(-0.18, 0.30, ragged) * cloudy


def _effusion(rng: np.random.Generator, chest: Chest, side: int, place) -> tuple[np.ndarray, np.ndarray]:
    """Fluid at the lung's base: it hides the diaphragm, and its surface climbs along the ribs."""
    w = side * chest.u
    level = chest.base[side] - rng.uniform(-0.02, 0.42)
    surface = level - rng.uniform(0.10, 0.22) * np.clip((w - 0.3) / 0.4, 0, 1.3) ** 2
    depth = chest.v - surface
    return depth, rng.uniform(0.34, 0.44) * smoothstep(-0.06, 0.10, depth)


def _nuisances(rng: np.random.Generator, chest: Chest, most: int) -> np.ndarray:
    """Density of foreign objects: wires and electrodes, a tube, a pacemaker, a marker letter."""
    at = grid(chest.size)
    dense = np.zeros_like(chest.v)
    for _ in range(int(rng.random() ** 2 * (most + 2))):
        start, end = (rng.uniform(-1, 0), rng.uniform(-1, 1)), (rng.uniform(0, 1), rng.uniform(-1, 1))
        wire = stroke(at, start, end, rng.uniform(-0.4, 0.4))
        disc = blob(at, end, (0.045, 0.045))
        dense = dense + 0.12 * smoothstep(0.016, 0.006, wire) + 0.10 * smoothstep(-0.1, 0.1, disc)
    tip = rng.uniform(-0.5, 0.6), rng.uniform(-0.02, 0.05)
    tube = stroke((chest.v, chest.u), (-1.2, 0.0), tip, rng.uniform(-0.05, 0.05))
    dense = dense + 0.16 * chance(rng, 0.2) * smoothstep(0.02, 0.008, tube)
    side = pick(rng, (-1, 1))
    box = blob((chest.v, chest.u), (chest.apex + 0.36, side * 0.55), (0.12, 0.10), 0.2, [(4, 0.06, 0.0)])
    lead = stroke((chest.v, chest.u), (chest.apex + 0.36, side * 0.5), (chest.base[1] - 0.1, 0.15), -side * 0.1)
    pacemaker = np.maximum(0.4 * smoothstep(-0.03, 0.03, box), 0.2 * smoothstep(0.016, 0.006, lead))
    dense = dense + chance(rng, 0.06) * pacemaker
    corner = rng.uniform(-0.9, -0.75), rng.uniform(0.75, 0.88)
    foot = corner[0] + 0.12, corner[1]
    letter = np.minimum(stroke(at, corner, foot), stroke(at, foot, (foot[0], foot[1] + 0.07)))
    return dense + chance(rng, 0.5) * 0.9 * smoothstep(0.022, 0.010, letter)


def _film(rng: np.random.Generator, dense: np.ndarray, level: Difficulty) -> np.ndarray:
    """The image: exposure, scatter that veils it, blur and grain, grey in three channels."""
    size = len(dense)
    gray = 1 - np.exp(-rng.uniform(1.5, 1.9) * np.clip(dense, 0, None) * (1 + level.cast * rng.uniform(-1, 1)))
    gray = (gray - 0.04) * rng.uniform(1.12, 1.28)
    haze = rng.uniform(0, 0.8 * level.haze)
    gray = gray + haze * (0.5 - gray) * smoothstep(-1.5, 1.5, noise(rng, size, 2))
    gray = blur(gray, 0.004 + rng.uniform(0.1, 0.7) * level.blur) + rng.uniform(-0.03, 0.03, gray.shape) * rng.random()
    return np.repeat(gray[..., None], 3, axis=-1)
