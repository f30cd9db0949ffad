"""Prompts for scenes: each names things by some of what is true of them, or names what is not there."""

from collections.abc import Sequence
from itertools import product

import numpy as np

from tools.pretrain.world import RELIEFS, SHAPE_WORDS, SHAPES, Scene, Thing
from vlsm_helpers.data.phantoms.drawing import chance, pick
from vlsm_helpers.data.prompts import NUMBERS, PALETTE, place_word, size_word

PREFIXES = ("", "", "", "", "a ", "a ", "the ", "a photo of a ", "an image of a ", "one ")
PLACES = ("top left", "top", "top right", "left", "center", "right", "bottom left", "bottom", "bottom right")
WHERE = (", located in {} of the image", " in the {}", " at the {}", ", {}", " on the {}")
COLOURS = (*PALETTE, "grey")
TEXTURES = ("striped", "spotted", "speckled")
BACKGROUND = ("background", "the background", "everything else")
EVERYTHING = ("thing", "object", "shape", "anything", "all things")
# In the vocabulary, in no prompt: what a clinician would say. The miniature has never seen what they mean.
MEDICAL = (
    "polyp polyps tumor tumors lesion lesions skin mole nodule mass lung lungs heart consolidation pleural effusion breast "
    "ultrasound endoscopy colon chest x-ray xray dermoscopy benign malignant normal no several medium sessile flat tissue"
)


def draw_prompt(rng: np.random.Generator, scene: Scene, masks: Sequence[np.ndarray]) -> tuple[str, np.ndarray]:
    """A prompt for a scene and the mask, bool, of all that it names; now and then that is nothing.

    `masks`: of the scene's things as they lie now, for a turned or mirrored scene keeps its words but not its places.
    """
    things = list(zip(scene.things, masks, strict=True))
    kind = rng.random()
    covered = np.any(masks, axis=0) if things else np.zeros(scene.image.shape[:2], bool)
    if kind < 0.03:
        return pick(rng, BACKGROUND), ~covered
    if kind < 0.06 or not things:
        return pick(rng, PREFIXES[:6]) + pick(rng, EVERYTHING), covered
    thing, mask = pick(rng, things)
    words = _words(rng, thing, mask)
    if kind > 0.64:  # say one thing that is wrong, the noun half of the time
        part = "noun" if chance(rng, 0.5) else pick(rng, [part for part in words if part != "noun"] or ["noun"])
        words[part] = pick(rng, _VOCABULARY[part])
    matching = [
        mask for thing, mask in things if all(_is_true(part, word, thing, mask) for part, word in words.items())
    ]
    return phrase(rng, words), np.any(matching, axis=0) if matching else np.zeros_like(covered)


def _words(rng: np.random.Generator, thing: Thing, mask: np.ndarray) -> dict[str, str]:
    """A noun and some of what else is true of a thing, in no order."""
    words = {"noun": pick(rng, thing.nouns)}
    if chance(rng, 0.6):
        words["colour"] = thing.colour
    if chance(rng, 0.25) and thing.tone:
        words["tone"] = thing.tone
    if chance(rng, 0.2):
        words["size"] = size_word(mask)
    if chance(rng, 0.3) and thing.texture in TEXTURES:
        words["texture"] = thing.texture
    if chance(rng, 0.2) and thing.shape in SHAPE_WORDS:
        words["shape"] = SHAPE_WORDS[thing.shape]
    if chance(rng, 0.4) and mask.any():
        words["place"] = place_word(mask)
    return words


def _is_true(part: str, word: str, thing: Thing, mask: np.ndarray) -> bool:
    """Whether a word may be said of a thing, in that part of a prompt."""
    if not mask.any():
        return False
    if part == "noun":
        return word in thing.nouns
    if part == "shape":
        return SHAPE_WORDS.get(thing.shape) == word
    if part in ("size", "place"):
        return {"size": size_word, "place": place_word}[part](mask) == word
    return getattr(thing, part) == word


def phrase(rng: np.random.Generator, words: dict[str, str]) -> str:
    """The words in the order of the course's prompt ladder: size, tone, texture, colour, shape, noun, place."""
    order = ("size", "tone", "texture", "colour", "shape", "noun")
    said = " ".join(words[part] for part in order if part in words)
    where = pick(rng, WHERE).format(words["place"]) if "place" in words else ""
    return pick(rng, PREFIXES) + said + where


_VOCABULARY = {
    "noun": sorted({noun for nouns in (*SHAPES.values(), *RELIEFS.values()) for noun in nouns} | {"spot", "dot"}),
    "colour": COLOURS,
    "tone": ("dark", "bright"),
    "size": ("small", "medium", "large"),
    "texture": TEXTURES,
    "shape": tuple(SHAPE_WORDS.values()),
    "place": PLACES,
}


def corpus() -> list[str]:
    """Texts with every word that a prompt of the world or of the course may hold: what the tokenizer is trained on."""
    wheres = [pattern.format(place) for pattern, place in product(WHERE, PLACES)]
    words = [word for words in _VOCABULARY.values() for word in words]
    prefixes = [prefix for prefix in PREFIXES if prefix]
    return [*words, *wheres, *prefixes, *BACKGROUND, *EVERYTHING, *NUMBERS, *MEDICAL.split()]
