from dataclasses import replace

import pytest

from vlsm_helpers.errors import SettingsError
from vlsm_helpers.training.recipes import (
    CNN,
    DECODER_ONLY,
    FULL,
    FULL_LOW_LR,
    FULL_TENTH,
    OLD_NAMES,
    PUBLISHED,
    RECIPES,
    find_recipe,
)


def test_the_published_recipe_is_what_the_authors_code_does():
    assert (PUBLISHED.learning_rate, PUBLISHED.weight_decay, PUBLISHED.batch_size) == (1e-5, 1e-3, 10)
    assert (PUBLISHED.epochs, PUBLISHED.patience, PUBLISHED.monitor, PUBLISHED.clip) == (1000, 20, "val_bce", 1.0)
    assert not PUBLISHED.augment
    assert PUBLISHED.return_to_best


def test_a_constant_schedule_is_constant():
    assert {PUBLISHED.learning_rate_at(progress / 10) for progress in range(10)} == {1e-5}


def test_the_cosine_warms_up_then_falls():
    rates = [CNN.learning_rate_at(progress / 100) for progress in range(100)]
    top = max(range(100), key=rates.__getitem__)
    assert 3 <= top <= 6
    assert rates[0] < 0.1 * CNN.learning_rate
    assert rates[:top] == sorted(rates[:top])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[-1] < 0.05 * CNN.learning_rate
    assert max(rates) == pytest.approx(CNN.learning_rate, rel=0.02)


def test_what_is_better():
    assert CNN.higher_is_better
    assert not PUBLISHED.higher_is_better
    assert set(RECIPES) == {
        "cnn",
        "cnn_pretrained",
        "cnn_imagenet",
        "published",
        "decoder_only",
        "full",
        "full_low_lr",
        "full_tenth",
        "full_light",
    }


def test_the_recipe_of_cris_is_its_authors():
    assert (FULL_TENTH.learning_rate, FULL_TENTH.encoder_rate, FULL_TENTH.epochs) == (1e-4, 0.1, 50)


def test_pretrained_encoders_learn_more_slowly_than_the_decoder():
    assert 0 < FULL_LOW_LR.encoder_rate < FULL.encoder_rate == 1


@pytest.mark.parametrize(("epochs", "views"), [(1, 1), (10, 1), (12, 2), (20, 3), (24, 4), (400, 4)])
def test_a_short_training_keeps_features_in_fewer_views(epochs, views):
    assert replace(DECODER_ONLY, epochs=epochs).views(4) == views


def test_a_cnn_beside_frozen_encoders_has_all_views_however_short_its_training():
    assert replace(CNN, epochs=5).views(4) == 4
    assert CNN.views(1) == 1


def test_the_words_of_version_0_1_0_name_todays_recipes():
    assert {old: find_recipe(old).name for old in OLD_NAMES} == OLD_NAMES
    assert find_recipe("published") is PUBLISHED
    with pytest.raises(SettingsError) as failure:
        find_recipe("theirs")
    assert all(name in failure.value.hint for name in RECIPES)


@pytest.mark.parametrize(
    "changes",
    [
        {"epochs": 0},
        {"batch_size": -1},
        {"patience": 0},
        {"epochs": 2.5},
        {"learning_rate": float("nan")},
        {"clip": -1.0},
    ],
    ids=str,
)
def test_numbers_that_train_nothing_are_refused(changes):
    with pytest.raises(SettingsError, match=next(iter(changes))):
        replace(CNN, **changes)
