import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlsm_helpers.data import registry
from vlsm_helpers.data.phantoms import PRETRAINING_SEEDS, render, rendering, seeds
from vlsm_helpers.errors import DataError

NAMES = [name for name, card in registry.DATASETS.items() if card.is_phantom]


def test_every_phantom_dataset_has_a_modality_that_draws_it():
    assert list(rendering._MODALITIES) == NAMES


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(NAMES), st.integers(0, 2**40), st.sampled_from(["easy", "medium", "hard"]), st.integers(32, 80))
def test_any_seed_gives_a_picture(name, seed, difficulty, size):
    phantom = render(name, seed, difficulty, size)
    assert phantom.image.shape == (size, size, 3)
    assert phantom.image.dtype == np.uint8
    assert phantom.mask.shape == (size, size)
    assert phantom.mask.dtype == bool
    assert phantom.mask.any() == (phantom.kind != "normal")
    assert phantom.image.std() > 10
    assert phantom.difficulty == difficulty


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(NAMES), st.integers(0, 10**6))
def test_a_seed_is_a_picture(name, seed):
    first, again, other = render(name, seed, size=48), render(name, seed, size=48), render(name, seed + 1, size=48)
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.mask, again.mask)
    assert not np.array_equal(first.image, other.image)


@pytest.mark.parametrize("name", NAMES)
def test_drawing_leaves_numpys_global_generator_alone(name):
    np.random.seed(3)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    render(name, 0, size=32)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_splits_share_no_seed():
    for name in NAMES:
        ranges = [seeds(name, split) for split in ("train", "val", "test")]
        assert [len(numbers) for numbers in ranges] == list(registry.find(name).entries.values())
        taken = [seed for numbers in [*ranges, PRETRAINING_SEEDS[:: 10**5]] for seed in numbers]
        assert len(taken) == len(set(taken))
        assert max(max(numbers) for numbers in ranges) < PRETRAINING_SEEDS.start


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("busi", 0), "busi"),
        (("phantom_skin", 0, "brutal"), "brutal"),
        (("phantom_skin", -1), "-1"),
        (("phantom_skin", 0, "easy", 31), "31 px"),
    ],
)
def test_what_cannot_be_drawn_is_refused(arguments, said):
    with pytest.raises(DataError, match=said):
        render(*arguments)


def test_unknown_splits_and_datasets_have_no_seeds():
    with pytest.raises(DataError, match="'dev'"):
        seeds("phantom_skin", "dev")
    with pytest.raises(DataError, match="phantom_teeth"):
        seeds("phantom_teeth", "train")


def test_a_label_map_has_two_targets_and_the_picture_shows_them():
    pairs = [rendering.render_label_map(seed, size=64, instruments=1) for seed in range(8)]
    labels = np.stack([labels for _, labels in pairs])
    assert set(np.unique(labels)) == {0, 1, 2}
    assert np.mean([(one == 2).any() for one in labels]) > 0.8  # some lie outside what the endoscope shows
    for seed, (image, label) in enumerate(pairs):
        without, polyp = rendering.render_label_map(seed, size=64, instruments=0)
        hidden = label == 2
        assert np.array_equal(label == 1, (polyp == 1) & ~hidden)
        if hidden.any():
            assert np.abs(image.astype(int) - without)[hidden].mean() > 10
            assert np.abs(image.astype(int) - without)[~hidden].mean() < 10
