"""Captioned phantoms: rendered once to a cache, and dealt out as batches of all modalities."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from tools.pretrain.captions import Description, claim_of, describe, mirrored, wording
from tools.pretrain.lexicon import Lexicon
from vlsm_helpers.data.phantoms import PRETRAINING_SEEDS, render
from vlsm_helpers.data.phantoms.rendering import GENERATOR_VERSION
from vlsm_helpers.settings import writable

SIZE = 128
HELD_OUT = range(1_900_000, 1_900_256)  # seeds of each modality for scores
VIEWS, EMPTY, MOST, TRIES = 3, 0.2, 0.7, 20  # of each phantom; see `views`
# Six of eight phantoms are as hard as the course's.
LEVELS = ("easy", "hard", "medium", "medium", "medium", "medium", "medium", "medium")


@dataclass(frozen=True)
class Corpus:
    """The phantoms of one modality: images uint8 (N, 128, 128, 3), and a description of each. No masks."""

    name: str
    images: np.ndarray
    descriptions: list[Description]


@dataclass(frozen=True)
class Batch:
    """B images with a true caption of each, which may be true of others, too."""

    images: np.ndarray  # uint8 (B, 128, 128, 3)
    captions: list[str]
    shown: np.ndarray  # float32 (B, columns of the lexicon): what is true of the images,
    said: np.ndarray  # float32 (B, columns of the lexicon): what the captions say


def training_seeds(count: int) -> range:
    """The seeds of `count` phantoms of a modality; none of them is held out or used by the course."""
    first = PRETRAINING_SEEDS.start
    return range(first, min(first + count, HELD_OUT.start))


def corpus(name: str, seeds: range, cache: Path) -> Corpus:
    """The phantoms of `seeds`, drawn once and then read from the folder `cache`."""
    folder = writable(cache / f"{name}-{seeds.start}-{len(seeds)}-v{GENERATOR_VERSION}")
    pixels, said = folder / "images.npy", folder / "descriptions.json"
    if not said.exists():  # written last
        _draw(name, seeds, pixels, said)
    descriptions = [
        {key: tuple(words) for key, words in entry.items()} for entry in json.loads(said.read_text(encoding="utf-8"))
    ]
    return Corpus(name, np.load(pixels, mmap_mode="r"), descriptions)


def _draw(name: str, seeds: range, pixels: Path, said: Path) -> None:
    images = np.lib.format.open_memmap(pixels, "w+", np.uint8, (len(seeds) * VIEWS, SIZE, SIZE, 3))
    descriptions = []
    for seed in tqdm(seeds, desc=f"drawing {name}", unit="image"):
        phantom = render(name, seed, LEVELS[seed % len(LEVELS)], SIZE)
        for image, mask in views(np.random.default_rng(seed), phantom.image, phantom.mask):
            images[len(descriptions)] = image
            descriptions.append(describe(name, image, mask, phantom.noun, phantom.kind))
    images.flush()
    said.write_text(json.dumps(descriptions), encoding="utf-8")


def views(rng: np.random.Generator, image: np.ndarray, mask: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """The picture with its mask, and VIEWS - 1 enlarged parts of it, a fifth of which show no finding.

    Parts put findings in all places, and teach what a picture without one looks like.
    """
    return [(image, mask), *(_part(rng, image, mask, rng.random() < EMPTY) for _ in range(VIEWS - 1))]


def _part(rng, image: np.ndarray, mask: np.ndarray, empty: bool) -> tuple[np.ndarray, np.ndarray]:
    """A square part with none of the finding, or with most of it; the whole picture where TRIES give no such part."""
    for _ in range(TRIES):
        side = int(rng.uniform(0.5, 1) * len(mask))
        top, left = rng.integers(len(mask) - side + 1, size=2)
        box = slice(top, top + side), slice(left, left + side)
        kept = mask[box].sum() / max(1, mask.sum())
        if (empty and kept == 0) or (not empty and kept >= MOST):
            return _enlarged(image[box], Image.Resampling.BILINEAR), _enlarged(mask[box], Image.Resampling.NEAREST)
    return image, mask


def _enlarged(pixels: np.ndarray, resampling: Image.Resampling) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).resize((SIZE, SIZE), resampling))


def batch(rng: np.random.Generator, corpora: list[Corpus], lexicon: Lexicon, size: int) -> Batch:
    """`size` images, as many of each corpus, half of them flipped, each with a true caption.

    Modalities are mixed, as in BiomedCLIP's pretraining. Within a modality its own words tell nothing, so that those that
    share one are what the loss has to find the target for.
    """
    images, described, claims = [], [], []
    for own in corpora:
        for row in rng.integers(len(own.descriptions), size=size // len(corpora)):
            flip = rng.random() < 0.5
            images.append(own.images[row, :, ::-1] if flip else own.images[row])
            described.append(mirrored(own.descriptions[row]) if flip else own.descriptions[row])
            claims.append(claim_of(rng, described[-1]))
    captions = [wording(rng, claim) for claim in claims]
    return Batch(np.stack(images), captions, lexicon.shown(described), lexicon.said(claims))


def jittered(rng: np.random.Generator, images: np.ndarray) -> np.ndarray:
    """Images uint8 (B, H, W, 3) as float32 in [0, 1], their contrast, brightness and colour changed a little.

    Too little for another colour word.
    """
    one = (len(images), 1, 1, 1)
    contrast, brightness = rng.uniform(0.85, 1.15, one), rng.uniform(-0.06, 0.06, one)
    tint = rng.uniform(0.96, 1.04, (len(images), 1, 1, 3))
    values = images.astype(np.float32) / 255
    mean = values.mean(axis=(1, 2, 3), keepdims=True)
    gain, offset = contrast * tint, ((1 - contrast) * mean + brightness) * tint
    values *= gain.astype(np.float32)
    values += offset.astype(np.float32)
    return np.clip(values, 0, 1, out=values)
