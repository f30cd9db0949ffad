import numpy as np
import pytest

from tools.pretrain import scenes
from tools.pretrain.clipseg import LESSONS
from tools.pretrain.scenes import HELD_OUT, SceneStore
from tools.pretrain.world import SURFACES, WINDOWS, draw


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("VLSM_CACHE", str(tmp_path))
    return SceneStore(range(7, 12), WINDOWS)


def test_the_store_holds_the_scenes_as_drawn(store):
    assert len(store) == 5
    for number, scene in enumerate(store):
        drawn = draw(7 + number, WINDOWS)
        assert np.array_equal(scene.image, drawn.image)
        assert len(scene.things) == len(drawn.things)
        for kept, thing in zip(scene.things, drawn.things, strict=True):
            assert np.array_equal(kept.mask, thing.mask)
            assert kept.nouns == thing.nouns
            assert kept.colour == thing.colour


def test_a_second_look_draws_nothing(store, monkeypatch):
    monkeypatch.setattr(scenes, "_write", lambda *_: pytest.fail("drawn again"))
    assert np.array_equal(SceneStore(range(7, 12), WINDOWS)[0].image, store[0].image)


def test_a_stopped_drawing_leaves_nothing_that_passes_for_a_store(tmp_path, monkeypatch):
    monkeypatch.setenv("VLSM_CACHE", str(tmp_path))
    monkeypatch.setattr(scenes.np, "packbits", lambda mask: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        SceneStore(range(3), SURFACES)
    assert not any((tmp_path / "world").iterdir())


def test_another_world_is_another_store(store):
    other = SceneStore(range(7, 12), SURFACES)
    assert not all(np.array_equal(one.image, another.image) for one, another in zip(store, other, strict=True))


def test_held_out_scenes_are_seeds_that_no_training_takes():
    for lesson in LESSONS:
        assert not set(HELD_OUT) & set(lesson.scenes)
