"""Captions and images as rows of words."""

import numpy as np
import torch

from tools.pretrain.captions import MODALITIES, claim_of, describe, is_true, mirrored
from tools.pretrain.lexicon import Lexicon, agree
from vlsm_helpers.data.phantoms import render

PINK_LEFT = {"finding": ("polyp", "bump"), "colour": ("pink",), "place": ("left",)}
RED_TOP = {"finding": ("polyp", "bump"), "colour": ("red",), "place": ("top",)}


def test_a_caption_is_true_where_all_its_words_are_shown():
    lexicon = Lexicon([PINK_LEFT, RED_TOP])
    claims = [
        {"finding": "bump"},
        {"finding": "polyp", "colour": "red"},
        {"colour": "pink", "place": "top"},
        {"finding": "tumor"},  # nobody's word
    ]
    truth = agree(lexicon.shown([PINK_LEFT, RED_TOP]), lexicon.said(claims))
    assert truth.tolist() == [[True, False, False, False], [True, True, False, False]]


def test_the_rows_say_what_is_true_asks_of_each_pair():
    rng = np.random.default_rng(0)
    phantoms = {name: [render(name, 1_800_000 + number) for number in range(3)] for name in MODALITIES}
    described = [describe(name, p.image, p.mask, p.noun, p.kind) for name, own in phantoms.items() for p in own]
    claims = [claim_of(rng, description) for description in described for _ in range(3)]
    lexicon = Lexicon(described)
    truth = agree(torch.from_numpy(lexicon.shown(described)), torch.from_numpy(lexicon.said(claims)))
    assert truth.tolist() == [[is_true(claim, description) for claim in claims] for description in described]


def test_mirrored_rows_are_those_of_mirrored_images():
    lexicon = Lexicon([PINK_LEFT, RED_TOP])
    assert ("place", "right") in lexicon.words
    np.testing.assert_array_equal(
        lexicon.mirrored(lexicon.shown([PINK_LEFT, RED_TOP])), lexicon.shown([mirrored(PINK_LEFT), mirrored(RED_TOP)])
    )


def test_each_attribute_has_columns_of_its_own():
    lexicon = Lexicon([PINK_LEFT, RED_TOP])
    seen = [number for key in lexicon.vocabulary for number in range(*lexicon.columns(key).indices(len(lexicon)))]
    assert seen == list(range(len(lexicon) - 1))
    assert {key for key, _ in lexicon.words[lexicon.columns("colour")]} == {"colour"}
