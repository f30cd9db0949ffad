import numpy as np
import pytest

from tools.pretrain import grounds, world
from tools.pretrain.world import RELIEFS, SHAPES, SIZE, SURFACES, WINDOWS, Thing, draw
from vlsm_helpers.data import phantoms


@pytest.fixture(scope="module", params=[SURFACES, WINDOWS])
def scenes(request):
    return [draw(seed, request.param) for seed in range(60)]


def test_a_scene_follows_from_its_seed():
    first, again, other = (draw(seed, WINDOWS) for seed in (3, 3, 4))
    assert np.array_equal(first.image, again.image)
    assert all(np.array_equal(a.mask, b.mask) for a, b in zip(first.things, again.things, strict=True))
    assert not np.array_equal(first.image, other.image)


def test_pictures_and_masks_are_what_they_are_said_to_be(scenes):
    for scene in scenes:
        assert scene.image.dtype == np.uint8
        assert scene.image.shape == (SIZE, SIZE, 3)
        assert len(scene.things) <= 5
        assert all(thing.mask.dtype == bool and thing.mask.shape == (SIZE, SIZE) for thing in scene.things)
        assert all(thing.mask.sum() >= world.LEAST_PIXELS for thing in scene.things)
    assert np.mean([len(scene.things) > 0 for scene in scenes]) > 0.8


def test_no_pixel_belongs_to_two_things(scenes):
    for scene in scenes:
        assert np.sum([thing.mask for thing in scene.things], axis=0).max(initial=0) <= 1


def test_there_are_many_kinds(scenes):
    things = [thing for scene in scenes for thing in scene.things]
    assert {thing.relief for thing in things} == set(RELIEFS)
    assert len({thing.shape for thing in things}) >= 8
    assert len({thing.colour for thing in things}) >= 8
    assert {thing.tone for thing in things} == {"dark", "bright", ""}


def square_on_grey(inside: int, outside: int = 128) -> tuple[np.ndarray, np.ndarray]:
    mask = np.zeros((SIZE, SIZE), bool)
    mask[40:60, 40:60] = True
    return np.where(mask[..., None], inside, outside).astype(np.uint8).repeat(3, axis=2), mask


@pytest.mark.parametrize(
    ("inside", "tone", "colour"), [(20, "dark", "black"), (230, "bright", "white"), (130, "", "grey")]
)
def test_colour_and_tone_are_measured_on_the_picture(inside, tone, colour):
    thing = world._named(*square_on_grey(inside), "square", "flat", "plain")
    assert (thing.tone, thing.colour) == (tone, colour)


def test_small_rounded_things_are_spots_and_bumps_are_bumps():
    small = np.zeros((SIZE, SIZE), bool)
    small[:10, :10] = True
    large = np.ones((SIZE, SIZE), bool)
    assert "spot" in Thing(small, "circle", "flat", "plain", "red", "").nouns
    assert "spot" not in Thing(large, "circle", "flat", "plain", "red", "").nouns
    assert "spot" not in Thing(small, "square", "flat", "plain", "red", "").nouns
    assert set(RELIEFS["bump"]) <= set(Thing(large, "oval", "bump", "plain", "pink", "").nouns)
    assert not set(RELIEFS["bump"]) & set(Thing(large, "oval", "patch", "plain", "pink", "").nouns)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_has_an_inside_and_an_outside(shape):
    depth = world._SHAPE_DEPTHS[shape](np.random.default_rng(0), world._local(np.random.default_rng(1), 0.4))
    assert 0.01 < (depth > 0).mean() < 0.5


@pytest.mark.parametrize("module", [world, grounds])
def test_nothing_medical_is_drawn(module):
    """The miniature's zero-shot scores mean something only because it never saw a phantom."""
    for name in ("endoscopy", "ultrasound", "skin", "xray", "render"):
        assert not hasattr(module, name)
    assert phantoms.render.__module__ not in {getattr(value, "__module__", "") for value in vars(module).values()}
