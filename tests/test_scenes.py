import numpy as np
import pytest

from tools.pretrain import scenes
from tools.pretrain.scenes import HELD_OUT, SceneStore
from tools.pretrain.world import draw


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("VLSM_CACHE", str(tmp_path))
    return SceneStore(range(7, 12))


def test_the_store_holds_the_scenes_as_drawn(store):
    assert len(store) == 5
    for number, scene in enumerate(store):
        drawn = draw(7 + number)
        assert np.array_equal(scene.image, drawn.image)
        assert len(scene.things) == len(drawn.things)
        for kept, thing in zip(scene.things, drawn.things, strict=True):
            assert np.array_equal(kept.mask, thing.mask)
            assert kept.nouns == thing.nouns
            assert kept.colour == thing.colour


def test_a_second_look_draws_nothing(store, monkeypatch):
    monkeypatch.setattr(scenes, "_write", lambda *_: pytest.fail("drawn again"))
    assert np.array_equal(SceneStore(range(7, 12))[0].image, store[0].image)


def test_a_stopped_drawing_leaves_nothing_that_passes_for_a_store(tmp_path, monkeypatch):
    monkeypatch.setenv("VLSM_CACHE", str(tmp_path))
    monkeypatch.setattr(scenes.np, "packbits", lambda mask: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        SceneStore(range(3))
    assert not any((tmp_path / "world").iterdir())


def test_held_out_scenes_are_seeds_that_no_training_takes():
    assert HELD_OUT.start > 1_000_000
