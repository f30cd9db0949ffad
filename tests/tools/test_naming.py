import numpy as np
import pytest

from tools.pretrain import naming
from tools.pretrain.naming import BACKGROUND, EVERYTHING, MEDICAL, corpus, draw_prompt, phrase
from tools.pretrain.world import SURFACES, Scene, Thing, draw


def box(rows: slice, columns: slice) -> np.ndarray:
    mask = np.zeros((128, 128), bool)
    mask[rows, columns] = True
    return mask


@pytest.fixture
def two_squares():
    """A red square at the top left and a blue one at the bottom right."""
    red = Thing(box(slice(5, 30), slice(5, 30)), "square", "flat", "plain", "red", "dark")
    blue = Thing(box(slice(90, 120), slice(90, 120)), "square", "flat", "striped", "blue", "")
    return Scene(np.zeros((128, 128, 3), np.uint8), (red, blue))


def named(scene: Scene, **words: str) -> np.ndarray:
    matching = [t.mask for t in scene.things if all(naming._is_true(k, v, t, t.mask) for k, v in words.items())]
    return np.any(matching, axis=0) if matching else np.zeros((128, 128), bool)


@pytest.mark.parametrize(
    ("words", "which"),
    [
        ({"noun": "square"}, (0, 1)),
        ({"noun": "square", "colour": "red"}, (0,)),
        ({"noun": "box", "place": "bottom right"}, (1,)),
        ({"noun": "square", "texture": "striped"}, (1,)),
        ({"noun": "square", "tone": "dark"}, (0,)),
        ({"noun": "star"}, ()),
        ({"noun": "square", "colour": "green"}, ()),
        ({"noun": "square", "place": "center"}, ()),
    ],
)
def test_a_prompt_means_all_things_of_which_every_word_is_true(two_squares, words, which):
    masks = [two_squares.things[number].mask for number in which]
    assert np.array_equal(named(two_squares, **words), np.any(masks, axis=0) if masks else np.zeros((128, 128), bool))


def test_words_stand_in_the_order_of_the_prompt_ladder():
    words = {"place": "left", "noun": "bump", "colour": "pink", "shape": "round", "size": "small"}
    prompt = phrase(np.random.default_rng(0), words)
    assert "small pink round bump" in prompt
    assert prompt.split("bump")[1].strip(" ,") in (
        "left",
        "in the left",
        "at the left",
        "on the left",
        "located in left of the image",
    )


def test_places_are_those_of_the_turned_picture(two_squares):
    rng = np.random.default_rng(0)
    mirrored = [thing.mask[:, ::-1] for thing in two_squares.things]
    seen = 0
    for _ in range(1500):
        prompt, target = draw_prompt(rng, two_squares, mirrored)
        what, _, where = prompt.partition("square")
        if what in ("red ", "a red ", "the red ", "one red ") and where:
            assert np.array_equal(target, mirrored[0]) if "top right" in where else not target.any()
            seen += "top right" in where
    assert seen > 0


def test_a_third_of_the_prompts_name_nothing_that_is_there():
    rng, empty, count = np.random.default_rng(0), 0, 0
    for seed in range(60):
        scene = draw(seed, SURFACES)
        for _ in range(20):
            _, target = draw_prompt(rng, scene, [thing.mask for thing in scene.things])
            empty, count = empty + (not target.any()), count + 1
    assert 0.2 < empty / count < 0.45


def test_the_background_is_all_that_is_no_thing(two_squares):
    rng = np.random.default_rng(1)
    masks = [thing.mask for thing in two_squares.things]
    drawn = dict(draw_prompt(rng, two_squares, masks) for _ in range(800))
    assert {prompt for prompt in drawn if prompt in BACKGROUND}
    for prompt, target in drawn.items():
        if prompt in BACKGROUND:
            assert np.array_equal(target, ~np.any(masks, axis=0))
        if prompt in EVERYTHING:
            assert np.array_equal(target, np.any(masks, axis=0))


def test_medical_words_are_in_the_vocabulary_and_in_no_prompt():
    assert set(MEDICAL.split()) <= set(corpus())
    rng, words = np.random.default_rng(0), set()
    for seed in range(30):
        scene = draw(seed, SURFACES)
        for _ in range(30):
            words |= set(draw_prompt(rng, scene, [t.mask for t in scene.things])[0].replace(",", "").split())
    assert not words & (set(MEDICAL.split()) - {"medium"})
