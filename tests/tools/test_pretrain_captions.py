"""Captions of phantoms say what the mask shows."""

from functools import cache

import numpy as np
import pytest

from tools.pretrain import captions
from vlsm_helpers.data import prompts
from vlsm_helpers.data.phantoms import render

PINK, DARK_RED = (225, 140, 140), (165, 50, 45)
DATASETS = sorted(captions.MODALITIES)


def rectangle(top, bottom, left, right, size=40):
    mask = np.zeros((size, size), bool)
    mask[top:bottom, left:right] = True
    return mask


def pink(mask):
    return np.where(mask[..., None], np.array(PINK), np.array(DARK_RED)).astype(np.uint8)


def polyp(mask, kind="sessile"):
    return captions.describe("phantom_endoscopy", pink(mask), mask, "polyp", kind)


@cache
def described(name, count=8):
    phantoms = [render(name, 1_800_000 + number) for number in range(count)]
    return [captions.describe(name, phantom.image, phantom.mask, phantom.noun, phantom.kind) for phantom in phantoms]


def test_what_is_said_of_a_high_pink_polyp_on_the_left():
    said = polyp(rectangle(2, 12, 2, 7))
    assert said == {
        "modality": ("colonoscopy", "endoscopy"),
        "finding": ("polyp", "growth", "bump"),
        "number": ("one",),
        "size": ("small",),
        "colour": ("pink",),
        "shape": ("oval",),
        "place": ("top left",),
        "kind": ("sessile",),
        "side": ("left", "upper"),
        "across": ("far left",),
        "build": ("taller than wide",),
    }


@pytest.mark.parametrize(
    ("mask", "across", "down"),
    [
        (rectangle(16, 24, 16, 24), None, None),
        (rectangle(16, 24, 13, 21), ("slightly left",), None),
        (rectangle(19, 27, 16, 24), None, ("slightly below",)),
        (rectangle(16, 24, 22, 32), None, None),  # right, but neither slightly nor far
        (rectangle(0, 6, 34, 40), ("far right",), ("very high",)),
        (rectangle(34, 40, 13, 21), ("slightly left",), ("very low",)),
    ],
)
def test_finer_places(mask, across, down):
    said = polyp(mask)
    assert (said.get("across"), said.get("down")) == (across, down)


def test_tiny_things_are_small_too():
    assert polyp(rectangle(10, 16, 10, 16))["size"] == ("small", "tiny")
    assert polyp(rectangle(10, 18, 10, 18))["size"] == ("small",)
    assert polyp(rectangle(5, 25, 5, 25))["size"] == ("medium",)


def test_two_polyps_are_counted_and_placed_and_neither_half_is_named():
    said = polyp(rectangle(2, 12, 2, 12) | rectangle(30, 36, 30, 38))
    assert said["number"] == ("two",)
    assert said["place"] == ("top left", "bottom right")
    assert "side" not in said


def test_an_empty_mask_has_nothing_but_its_absence():
    empty = np.zeros((40, 40), bool)
    said = captions.describe("phantom_ultrasound", pink(empty), empty, "tumor", "normal")
    assert set(said) == {"modality", "finding"}
    assert {"no tumor", "no lesion", "normal"} <= set(said["finding"])
    assert all(captions.says_absent(word) for word in said["finding"])


def test_a_flipped_picture_has_flipped_words():
    mask = rectangle(2, 12, 2, 7)
    assert captions.mirrored(polyp(mask)) == polyp(mask[:, ::-1])
    near = rectangle(16, 24, 13, 21)
    assert captions.mirrored(polyp(near)) == polyp(near[:, ::-1])
    assert captions.mirrored(captions.mirrored(polyp(mask))) == polyp(mask)


def test_a_claim_is_true_of_every_picture_that_has_all_its_words():
    left, right = polyp(rectangle(16, 24, 2, 10)), polyp(rectangle(16, 24, 30, 38))
    assert captions.is_true({"finding": "bump", "colour": "pink"}, left)
    assert captions.is_true({"finding": "bump", "colour": "pink"}, right)
    assert captions.is_true({"finding": "polyp", "place": "left"}, left)
    assert not captions.is_true({"finding": "polyp", "place": "left"}, right)
    assert not captions.is_true({"finding": "tumor"}, left)


@pytest.mark.parametrize("name", DATASETS)
def test_a_sentence_has_every_word_of_its_claim_and_no_other_place(name):
    rng = np.random.default_rng(1)
    other = {"top": "upper", "bottom": "lower", "center": "middle"}
    for said in described(name) * 10:
        claim = captions.claim_of(rng, said)
        text = captions.wording(rng, claim)
        for key, word in claim.items():
            if key == "modality" and claim["finding"] == "normal":
                continue
            stems = [part for part in word.split() if key != "place"] or []
            assert all(stem in text for stem in stems), (claim, text)
        if "place" in claim:
            words = claim["place"].split()
            assert all(word in text or other.get(word, word) in text for word in words), (claim, text)
        if not {"place", "side", "across"} & set(claim):
            assert "left" not in text, (claim, text)
            assert "right" not in text.replace("bright", ""), (claim, text)


def test_sentences_vary_from_a_word_to_a_long_one():
    rng = np.random.default_rng(2)
    said = polyp(rectangle(2, 12, 2, 7))
    texts = [captions.wording(rng, captions.claim_of(rng, said)) for _ in range(400)]
    lengths = [len(text.split()) for text in texts]
    assert len(set(texts)) > 250
    assert min(lengths) <= 2
    assert max(lengths) >= 12


@pytest.mark.parametrize(
    ("claim", "texts"),
    [
        ({"finding": "polyp"}, {"a polyp", "polyp"}),
        ({"finding": "normal", "modality": "skin"}, {"normal skin"}),
        ({"finding": "no tumor"}, {"no tumor", "no tumor is seen", "there is no tumor"}),
        ({"finding": "lung mass", "number": "two"}, {"two lung masses"}),
        ({"finding": "polyp", "colour": "orange"}, {"an orange polyp", "orange polyp", "polyp, orange"}),
    ],
)
def test_short_sentences(claim, texts):
    rng = np.random.default_rng(3)
    assert {captions.wording(rng, claim) for _ in range(100)} == texts


def test_a_full_claim_is_worded_as_the_courses_prompts_are():
    mask = rectangle(2, 12, 2, 7)
    rungs = prompts.ladder(pink(mask), mask, "polyp", kind="sessile", modality="colonoscopy")
    assert captions.prompt_of(captions.full_claim(polyp(mask))) == rungs["p6"][0]
    assert captions.prompt_of({"finding": "polyp", "shape": "oval", "colour": "pink"}) == rungs["p3"][1]
    two = rectangle(2, 12, 2, 12) | rectangle(30, 36, 30, 38)
    assert captions.prompt_of(captions.full_claim(polyp(two))).startswith(
        f"{prompts.ladder(pink(two), two, 'sessile polyp')['p5']},"
    )


@pytest.mark.parametrize("name", DATASETS)
def test_many_captions_say_all_that_a_prompt_says(name):
    rng = np.random.default_rng(4)
    said = next(one for one in described(name) if not captions.says_absent(one["finding"][0]))
    claims = [captions.claim_of(rng, said) for _ in range(300)]
    assert all(captions.is_true(claim, said) for claim in claims)
    full = sum(claim.keys() == captions.full_claim(said).keys() for claim in claims)
    assert captions.FULL - 0.1 < full / len(claims) < captions.FULL + 0.1


def test_the_words_for_a_place_bound_the_centre():
    rng = np.random.default_rng(5)
    for _ in range(200):
        top, left = rng.integers(36, size=2)
        said = polyp(rectangle(top, top + 4, left, left + 4))
        centre = (top + 2) / 40, (left + 2) / 40
        for attribute in captions.WHERE:
            for word in said.get(attribute, ()):
                spans = captions.interval(attribute, word)
                assert all(low - 1e-9 <= at <= high + 1e-9 for at, (low, high) in zip(centre, spans, strict=True)), word
