import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from vlsm_helpers.data import prompts
from vlsm_helpers.errors import DataError

PINK, DARK_RED = (228, 142, 138), (160, 48, 45)
RUNGS = [f"p{rung}" for rung in range(7)]


def mask_of(*rows):
    """A mask from rows of text, in which # is foreground."""
    return np.array([[letter == "#" for letter in row] for row in rows])


def coloured(mask, colour, ground=DARK_RED):
    return np.where(mask[..., None], np.array(colour), np.array(ground)).astype(np.uint8)


DOT = mask_of("........", "........", "........", ".....###", ".....###", ".....###", "........", "........")
BAR = mask_of("........", "........", "........", "........", "........", "........", "######..", "######..")
CROSS = mask_of("...##...", "...##...", "...##...", "########", "########", "...##...", "...##...", "...##...")
TWO = mask_of("##......", "##......", "........", "........", "........", ".....###", ".....###", ".....###")
EMPTY = np.zeros((8, 8), bool)


def test_the_ladder_as_the_benchmark_writes_it():
    assert prompts.ladder(coloured(DOT, PINK), DOT, "polyp") == {
        "p0": "",
        "p1": "polyp",
        "p2": "round polyp",
        "p3": "pink round polyp",
        "p4": "medium pink round polyp",
        "p5": "one medium pink round polyp",
        "p6": "one medium pink round polyp, located in right of the image",
    }


def test_a_kind_gives_two_texts_each_the_first_with_it():
    ladder = prompts.ladder(coloured(BAR, (30, 30, 30), (120, 120, 120)), BAR, "tumor", "benign", "breast ultrasound")
    assert ladder["p1"] == "tumor"
    assert ladder["p2"] == ["elongated benign tumor", "elongated tumor"]
    assert ladder["p6"] == [
        f"one medium dark elongated {called}, located in bottom of the breast ultrasound image"
        for called in ("benign tumor", "tumor")
    ]


def test_several_parts():
    ladder = prompts.ladder(coloured(TWO, PINK), TWO, "polyp")
    assert ladder["p4"] == "medium pink round polyp"
    assert ladder["p5"] == "two medium pink round polyps"
    assert ladder["p6"] == "two medium pink round polyps, located in bottom right, top left of the image"


def test_parts_in_one_place_name_it_once():
    mask = mask_of("#.#.....", *["........"] * 7)
    assert prompts.ladder(coloured(mask, PINK), mask, "polyp")["p6"].endswith("located in top left of the image")


@pytest.mark.parametrize(("noun", "plural"), [("lung mass", "lung masses"), ("lungs", "lungs"), ("mole", "moles")])
def test_plurals(noun, plural):
    assert prompts.ladder(coloured(TWO, PINK), TWO, noun)["p5"] == f"two medium pink round {plural}"


@pytest.mark.parametrize("kind", [None, "normal"])
def test_an_empty_mask_has_none_of_it(kind):
    ladder = prompts.ladder(coloured(EMPTY, PINK), EMPTY, "tumor", kind)
    assert ladder == {"p0": ""} | dict.fromkeys(RUNGS[1:], "no tumor")


@settings(max_examples=60, deadline=None)
@given(arrays.arrays(bool, st.tuples(st.integers(1, 20), st.integers(1, 20))), st.integers(0, 2**32 - 1))
def test_each_rung_says_more(mask, seed):
    image = np.random.default_rng(seed).integers(0, 256, (*mask.shape, 3), np.uint8)
    ladder = prompts.ladder(image, mask, "polyp")
    assert list(ladder) == RUNGS
    if mask.any():
        said = [set(ladder[rung].replace("polyps", "polyp").replace(",", "").split()) for rung in RUNGS]
        assert all(low < high for low, high in itertools.pairwise(said))
        assert prompts.names_side(ladder["p6"]) == (not ladder["p6"].endswith("in center of the image"))
        assert not prompts.names_side(ladder["p5"])


@settings(max_examples=60, deadline=None)
@given(arrays.arrays(bool, (9, 12)).filter(np.any))
def test_words_under_a_flip(mask):
    swapped = {"left": "right", "right": "left"}
    here, there = prompts.place_word(mask).split(), prompts.place_word(mask[:, ::-1]).split()
    assert [swapped.get(word, word) for word in here] == there
    assert prompts.aspect(mask[:, ::-1]) == pytest.approx(prompts.aspect(mask))
    assert prompts.solidity(mask.T) == pytest.approx(prompts.solidity(mask))


def test_corners_connect_and_specks_do_not_count():
    mask = np.zeros((20, 20), bool)
    mask[0:5, 0:5] = mask[5:10, 5:10] = True
    mask[15, 15] = True
    (part,) = prompts.components(mask)
    assert part.sum() == 50
    mask[15:17, 15:17] = True
    assert [part.sum() for part in prompts.components(mask)] == [50, 4]
    assert prompts.components(EMPTY) == []


def test_numbers():
    assert [prompts.number_word(number) for number in (1, 2, 5, 6)] == ["one", "two", "five", "several"]


@pytest.mark.parametrize(("rows", "word"), [(7, "small"), (8, "medium"), (29, "medium"), (30, "large")])
def test_sizes(rows, word):
    mask = np.zeros((100, 10), bool)
    mask[:rows] = True
    assert prompts.size_word(mask) == word


@pytest.mark.parametrize(
    ("row", "column", "word"),
    [
        (0, 0, "top left"),
        (0, 4, "top"),
        (2, 8, "top right"),
        (4, 0, "left"),
        (4, 4, "center"),
        (5, 6, "right"),
        (8, 1, "bottom left"),
        (6, 3, "bottom"),
        (8, 8, "bottom right"),
    ],
)
def test_places_are_ninths(row, column, word):
    mask = np.zeros((9, 9), bool)
    mask[row, column] = True
    assert prompts.place_word(mask) == word


def test_aspect_by_hand():
    assert prompts.aspect(DOT) == pytest.approx(1)
    assert prompts.aspect(BAR) == pytest.approx(3)  # 6 by 2 pixels
    assert prompts.aspect(mask_of("#")) == pytest.approx(1)
    assert prompts.aspect(mask_of("####")) == pytest.approx(4)


def test_solidity_by_hand():
    assert prompts.solidity(DOT) == 1
    assert prompts.solidity(mask_of("#..", "##.", "###")) == 1
    assert prompts.solidity(mask_of("#####")) == prompts.solidity(mask_of("#")) == 1  # a line has no area to miss
    assert prompts.solidity(mask_of("#..", "#..", "###")) == pytest.approx(5 / 6)  # the hull adds the middle
    assert prompts.solidity(CROSS) == pytest.approx(28 / 40)  # 6 of 64 pixels lie beyond each corner of the hull


@pytest.mark.parametrize(("mask", "word"), [(DOT, "round"), (BAR[5:, :6], "elongated"), (CROSS, "irregular")])
def test_shapes(mask, word):
    assert prompts.shape_word(mask) == word


def test_an_oval():
    y, x = np.mgrid[-20:21, -20:21]
    assert prompts.shape_word((y / 10) ** 2 + (x / 17) ** 2 < 1) == "oval"
    assert prompts.shape_word(np.kron((y / 10) ** 2 + (x / 11) ** 2 < 1, np.ones((9, 9), bool))) == "round"


@pytest.mark.parametrize(
    ("colour", "word"),
    [
        (PINK, "pink"),
        (DARK_RED, "red"),
        ((240, 235, 225), "white"),
        ((105, 65, 40), "brown"),
        ((220, 180, 90), "yellow"),
        ((20, 15, 15), "black"),
        ((205, 160, 125), "tan"),
    ],
)
def test_colours(colour, word):
    assert prompts.colour_word(coloured(DOT, colour), DOT) == word


@pytest.mark.parametrize(("level", "word"), [(20, "dark"), (128, "grey"), (220, "bright")])
def test_grey_images(level, word):
    image = coloured(DOT, (level,) * 3, (90, 90, 90))
    assert prompts.colour_word(image, DOT) == prompts.colour_word(image[..., 0], DOT) == word


@pytest.mark.parametrize(
    ("prompt", "answer"),
    [
        ("one polyp, located in right of the image", True),
        ("Tumor at the TOP in the image", True),
        ("upper-left lung", True),
        ("lower lobe", True),
        ("bottom", True),
        ("a bright polyp that is leftover", False),
        ("stop at the centre", False),
        ("", False),
    ],
)
def test_sides(prompt, answer):
    assert prompts.names_side(prompt) is answer


def test_masks_of_0_and_1_are_masks():
    image = coloured(DOT, PINK)
    for kind in (np.uint8, np.int64, np.float32):
        assert prompts.ladder(image, DOT.astype(kind), "polyp") == prompts.ladder(image, DOT, "polyp")


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (DOT[..., None], "not 2-D"),
        (DOT.astype(np.uint8) * 255, "from 0 to 255"),
        (DOT * 0.5, "from 0.0 to 0.5"),
        (np.zeros((0, 8), bool), "not 2-D"),
    ],
)
def test_what_is_no_mask_is_refused(mask, said):
    with pytest.raises(DataError, match=said):
        prompts.ladder(coloured(DOT, PINK), mask, "polyp")


@pytest.mark.parametrize("shape", [(8, 7, 3), (8, 8, 4), (3, 8, 8), (7, 8)])
def test_an_image_must_fit_its_mask(shape):
    with pytest.raises(DataError, match="do not fit"):
        prompts.ladder(np.zeros(shape, np.uint8), DOT, "polyp")


@pytest.mark.parametrize("measure", [prompts.place_word, prompts.shape_word, prompts.aspect, prompts.solidity])
def test_an_empty_mask_cannot_be_measured(measure):
    with pytest.raises(DataError, match="empty"):
        measure(EMPTY)
