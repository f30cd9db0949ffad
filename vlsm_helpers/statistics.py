"""Intervals: how sure a mean over images is."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats


class Interval(NamedTuple):
    """A mean and its interval, in the values' unit, over `n` values (those that are not NaN)."""

    mean: float
    low: float
    high: float
    n: int


def bootstrap_mean(values: Sequence[float], *, level: float = 0.95, resamples: int = 9999, seed: int = 0) -> Interval:
    """The mean of `values` with its percentile bootstrap interval (Efron); NaN values do not count.

    Fewer than two values have no interval: its ends are NaN.
    """
    values = np.asarray(values, float)
    values = values[~np.isnan(values)]
    if len(values) < 2:
        mean = float(values.mean()) if len(values) else float("nan")
        return Interval(mean, float("nan"), float("nan"), len(values))
    generator = np.random.default_rng(seed)
    result = stats.bootstrap(
        (values,),
        np.mean,
        confidence_level=level,
        n_resamples=resamples,
        method="percentile",
        rng=generator,
        batch=1000,
    )
    low, high = result.confidence_interval
    return Interval(float(values.mean()), float(low), float(high), len(values))
