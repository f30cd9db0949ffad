import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlsm_helpers.metrics.statistics import bootstrap_mean, bootstrap_seeds, paired_difference


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


def test_a_higher_level_is_wider():
    values = np.random.default_rng(0).random(40)
    narrow, wide = bootstrap_mean(values, level=0.8), bootstrap_mean(values, level=0.99)
    assert wide.low < narrow.low < narrow.high < wide.high


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


@pytest.mark.parametrize(("shape", "mean"), [((3, 1), 0.7), ((1, 1), 0.7), ((2, 0), math.nan), ((0, 4), math.nan)])
@pytest.mark.filterwarnings("error")
def test_fewer_than_two_images_have_no_interval_however_many_seeds(shape, mean):
    found = bootstrap_seeds(np.full(shape, 0.7))
    assert found.mean == pytest.approx(mean, nan_ok=True)
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    assert found.n == shape[1]
