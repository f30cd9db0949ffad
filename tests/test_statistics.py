import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlsm_helpers.statistics import bootstrap_mean


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
