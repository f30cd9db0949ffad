import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from vlsm_helpers.metrics.statistics import (
    bootstrap_mean,
    bootstrap_seeds,
    holm,
    paired_difference,
    paired_gain,
    scores_by_seed,
)


def test_the_interval_of_a_coin_is_near_the_textbook_one():
    values = [0.0, 1.0] * 50
    mean, low, high, n = bootstrap_mean(values)
    half = 1.96 * 0.5 / math.sqrt(100)
    assert mean == 0.5
    assert n == 100
    assert (low, high) == pytest.approx((0.5 - half, 0.5 + half), abs=0.015)


def test_equal_values_have_no_spread():
    assert bootstrap_mean([0.25] * 10) == (0.25, 0.25, 0.25, 10)


def test_undefined_values_do_not_count():
    assert bootstrap_mean([0.2, math.nan, 0.4]).n == 2
    assert bootstrap_mean([0.2, math.nan, 0.4]).mean == pytest.approx(0.3)


@pytest.mark.parametrize(("values", "mean"), [([0.7], 0.7), ([], math.nan), ([math.nan], math.nan)])
def test_too_few_values_have_no_interval(values, mean):
    result = bootstrap_mean(values)
    assert result.mean == pytest.approx(mean, nan_ok=True)
    assert math.isnan(result.low)
    assert math.isnan(result.high)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=30))
def test_the_interval_is_repeatable_and_holds_the_mean(values):
    first, second = (bootstrap_mean(values, resamples=999, seed=3) for _ in range(2))
    assert first == second
    assert first.low - 1e-9 <= first.mean <= first.high + 1e-9


def test_a_paired_difference_is_surer_than_two_means():
    generator = np.random.default_rng(0)
    hard = generator.normal(0.6, 0.2, 100)
    first, second = hard + 0.02 + generator.normal(0, 0.02, 100), hard
    found = paired_difference(first, second)
    assert found.mean == pytest.approx((first - second).mean())
    assert 0 < found.low < found.mean < found.high
    apart = bootstrap_mean(first)
    assert found.high - found.low < (apart.high - apart.low) / 3
    mirrored = paired_difference(second, first)
    assert mirrored.mean == -found.mean
    assert found.n == 100


def test_frames_of_one_video_count_as_one():
    generator = np.random.default_rng(0)
    of_video = np.repeat(generator.normal(0.02, 0.1, 20), 10)
    videos = np.repeat(np.arange(20), 10)
    alone = paired_difference(of_video, np.zeros(200))
    together = paired_difference(of_video, np.zeros(200), clusters=videos)
    assert together.mean == pytest.approx(alone.mean)
    assert together.n == 20
    assert together.high - together.low > 2 * (alone.high - alone.low)


def test_pairs_with_a_nan_and_too_few_pairs():
    assert paired_difference([1, np.nan, 3], [0, 0, 0])[::3] == (2, 2)
    lonely = paired_difference([0.5], [0.25])
    assert lonely.mean == 0.25
    assert np.isnan(lonely.low)
    assert np.isnan(paired_difference([], []).mean)
    with pytest.raises(ValueError, match="cluster of each image"):
        paired_difference([1, 2], [0, 0], clusters=["a"])


def test_seeds_widen_the_interval():
    generator = np.random.default_rng(0)
    images, seeds = generator.normal(0.7, 0.1, 50), np.array([-0.1, 0.0, 0.1])
    scores = images + seeds[:, None]
    found = bootstrap_seeds(scores, resamples=2000)
    alone = bootstrap_mean(scores.mean(0), resamples=2000)
    assert found.mean == pytest.approx(alone.mean)
    assert found.high - found.low > 1.5 * (alone.high - alone.low)
    with pytest.raises(ValueError, match="without NaN"):
        bootstrap_seeds(np.array([0.5, np.nan]))


def test_clusters_of_images_with_several_seeds():
    images, patients = np.random.default_rng(0).random(12), np.repeat(list("cab"), 4)
    one, several = bootstrap_mean(images, clusters=patients), bootstrap_seeds([images], clusters=patients)
    assert several == one
    assert several.n == 3
    thrice = bootstrap_seeds([images] * 3, clusters=patients)
    assert (thrice.mean, thrice.n) == (pytest.approx(one.mean), 3)
    with pytest.raises(ValueError, match="cluster of each image"):
        bootstrap_seeds([images], clusters=patients[1:])


@pytest.mark.parametrize(("shape", "mean"), [((3, 1), 0.7), ((1, 1), 0.7), ((2, 0), math.nan), ((0, 4), math.nan)])
@pytest.mark.filterwarnings("error")
def test_fewer_than_two_images_have_no_interval_however_many_seeds(shape, mean):
    found = bootstrap_seeds(np.full(shape, 0.7))
    assert found.mean == pytest.approx(mean, nan_ok=True)
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    assert found.n == shape[1]


def rows_of(scores, model="one", ids=None):
    """A row per image and seed of scores (seeds, images)."""
    seeds, images = scores.shape
    ids = np.array([f"{number}" for number in range(images)] if ids is None else ids)
    parts = [pd.DataFrame({"seed": seed, "id": ids, "model": model, "dice": scores[seed]}) for seed in range(seeds)]
    return pd.concat(parts, ignore_index=True)


@pytest.mark.parametrize("count", [2, 12, 101])
def test_one_seed_has_one_interval_whichever_function_gives_it(count):
    """`vlsm evaluate` summarises one run, `vlsm reproduce` all seeds of a member: of one seed they say the same."""
    scores = np.random.default_rng(count).random((2, count))
    alone, one_seed = bootstrap_mean(scores[0]), bootstrap_seeds(scores[:1])
    assert tuple(one_seed) == tuple(alone)
    rows = pd.concat([rows_of(scores[:1]), rows_of(scores[1:], "other")])
    gain = paired_gain(rows, "one", "other")
    expected = paired_difference(100 * scores[0], 100 * scores[1])
    assert tuple(gain[name] for name in ("value", "low", "high", "n")) == pytest.approx(tuple(expected))


def test_the_interval_is_the_percentile_interval_of_scipy():
    values = np.random.default_rng(0).random(40)
    found = bootstrap_mean(values)
    by_scipy = stats.bootstrap((values,), np.mean, method="percentile", rng=np.random.default_rng(0), batch=1000)
    assert (found.low, found.high) == pytest.approx(tuple(by_scipy.confidence_interval))


def test_of_two_seeds_and_two_images_every_mean_is_known():
    """Scores 0 and 1 by image, the same for both seeds: the mean is 0, 1/2 or 1, with 1/4, 1/2 and 1/4."""
    scores = np.array([[0.0, 1.0], [0.0, 1.0]])
    assert tuple(bootstrap_seeds(scores)) == (0.5, 0, 1, 2)
    by_seed = scores.T  # the same by seed instead of by image
    assert tuple(bootstrap_seeds(by_seed)) == (0.5, 0, 1, 2)


def test_images_keep_their_order_so_that_a_table_repeats_the_interval_of_a_run():
    scores = np.random.default_rng(3).random((1, 12))
    rows = rows_of(scores, ids=[f"{number}" for number in range(12)])  # as text, "10" sorts before "2"
    assert list(scores_by_seed(rows).columns) == list(rows["id"])
    assert tuple(bootstrap_seeds(scores_by_seed(rows).to_numpy())) == tuple(bootstrap_mean(scores[0]))


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 3), st.integers(2, 12), st.integers(0, 99))
def test_the_order_of_the_other_side_does_not_matter_and_sides_swap(seeds, images, number):
    generator = np.random.default_rng(number)
    one, other = (rows_of(generator.random((seeds, images)), model) for model in ("one", "other"))
    gain = paired_gain(pd.concat([one, other]), "one", "other", resamples=500)
    shuffled = pd.concat([one, other.sample(frac=1, random_state=number)])
    assert paired_gain(shuffled, "one", "other", resamples=500) == gain
    swapped = paired_gain(pd.concat([one, other]), "other", "one", resamples=500)
    assert swapped["value"] == pytest.approx(-gain["value"])
    assert swapped["low"] == pytest.approx(-gain["high"])
    assert swapped["p"] == gain["p"]


def test_the_p_value_is_below_5_percent_where_the_interval_excludes_0():
    rng, excluded = np.random.default_rng(0), []
    for shift in np.linspace(-0.1, 0.1, 21):
        both = np.zeros((2, 2, 30))
        both[0] = shift + rng.normal(0, 0.1, (2, 30))
        gain = paired_gain(pd.concat([rows_of(both[0]), rows_of(both[1], "other")]), "one", "other", resamples=1999)
        assert (gain["low"] > 0 or gain["high"] < 0) == (gain["p"] < 0.05)
        excluded.append(gain["p"] < 0.05)
    assert any(excluded)
    assert not all(excluded)


def test_no_difference_at_all_has_a_p_value_of_1_and_one_image_has_none():
    equal = pd.concat([rows_of(np.full((1, 5), 0.5)), rows_of(np.full((1, 5), 0.5), "other")])
    assert paired_gain(equal, "one", "other")["p"] == 1
    assert math.isnan(paired_gain(equal[equal["id"] == "0"], "one", "other")["p"])


@pytest.mark.parametrize(
    ("p_values", "adjusted"),
    [
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),  # 4 x 0.005, 3 x 0.01, 2 x 0.03, then no smaller: 0.06
        ([0.5, 0.6], [1.0, 1.0]),
        ([0.02], [0.02]),
        ([], []),
        ([0.01, math.nan, 0.04], [0.02, math.nan, 0.04]),
    ],
)
def test_holm_by_hand(p_values, adjusted):
    assert holm(p_values) == pytest.approx(adjusted, nan_ok=True)


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_lies_between_the_p_values_and_bonferroni_and_keeps_their_order(p_values):
    adjusted, p_values = holm(p_values), np.asarray(p_values)
    assert (adjusted >= p_values).all()
    assert (adjusted <= np.minimum(1, p_values * len(p_values)) + 1e-12).all()
    order = np.argsort(p_values, kind="stable")
    assert (np.diff(adjusted[order]) >= 0).all()


def test_holm_refuses_what_is_no_p_value():
    with pytest.raises(ValueError, match="p-values"):
        holm([0.2, 1.2])
