"""Confidence intervals of a mean over images, and of the difference between two models on the same images."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats


class Interval(NamedTuple):
    """A mean and its interval, in the values' unit, over `n` values (those that are not NaN)."""

    mean: float
    low: float
    high: float
    n: int


def bootstrap_mean(values: Sequence[float], *, level: float = 0.95, resamples: int = 9999, seed: int = 0) -> Interval:
    """The mean of `values` with its percentile bootstrap interval (Efron); NaN values do not count.

    Fewer than two values have no interval: its ends are NaN; no value has no mean either.
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


def paired_difference(
    first: Sequence[float],
    second: Sequence[float],
    *,
    clusters: Sequence[object] | None = None,
    level: float = 0.95,
    resamples: int = 9999,
    seed: int = 0,
) -> Interval:
    """The mean of `first` minus `second`, scores of the same images in the same order, with its percentile bootstrap interval.

    Images are resampled, or, where `clusters` says which belong together (frames of one video, slices of one patient), whole
    clusters: `n` is the number of what was resampled. Pairs with a NaN do not count. Raises ValueError for lists of different
    lengths.
    """
    differences = np.asarray(first, float) - np.asarray(second, float)
    groups = np.arange(len(differences)) if clusters is None else np.asarray(clusters)
    if len(groups) != len(differences):
        raise ValueError(f"{len(differences)} images and {len(groups)} clusters: name the cluster of each image")
    known = ~np.isnan(differences)
    _, members = np.unique(groups[known], return_inverse=True)
    sums, counts = np.bincount(members, differences[known]), np.bincount(members)
    if len(sums) < 2:
        return Interval(float(sums.sum() / counts.sum()) if len(sums) else float("nan"), *[float("nan")] * 2, len(sums))
    result = stats.bootstrap(
        (sums, counts),
        lambda total, count, axis: total.sum(axis) / count.sum(axis),
        paired=True,
        vectorized=True,
        confidence_level=level,
        n_resamples=resamples,
        method="percentile",
        rng=np.random.default_rng(seed),
        batch=1000,
    )
    low, high = result.confidence_interval
    return Interval(float(sums.sum() / counts.sum()), float(low), float(high), len(sums))


def bootstrap_seeds(scores: np.ndarray, *, level: float = 0.95, resamples: int = 9999, seed: int = 0) -> Interval:
    """The mean of scores (K seeds, N images) with an interval in which both seeds and images are resampled.

    Seeds are a level of their own: of three runs on the same images, the images' interval alone is too narrow. `n` is N.
    Fewer than two images have no interval: its ends are NaN; no scores have no mean either. Raises ValueError for scores of
    another shape or with a NaN.
    """
    scores = np.asarray(scores, float)
    if scores.ndim != 2 or np.isnan(scores).any():
        raise ValueError(f"scores must be (seeds, images) without NaN, not {scores.shape}")
    rng, (seeds, images) = np.random.default_rng(seed), scores.shape
    if not seeds or images < 2:
        return Interval(float(scores.mean()) if scores.size else float("nan"), float("nan"), float("nan"), images)
    means = [
        scores[np.ix_(rng.integers(seeds, size=seeds), rng.integers(images, size=images))].mean()
        for _ in range(resamples)
    ]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(scores.mean()), float(low), float(high), images)


def paired_gain(
    rows: pd.DataFrame,
    first: str | Mapping[str, object],
    second: str | Mapping[str, object],
    *,
    by: str = "model",
    metric: str = "dice",
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, float]:
    """The mean gain of `first` over `second`, paired by image and seed, with its 95 % interval over images and seeds.

    `rows`: one row per image and seed, with the columns `seed`, `id`, `by` and `metric` (a fraction), of one dataset.
    `first`, `second`: a value of the column `by`, such as a model's name, or several columns with their values.
    Returns `value`, `low` and `high` in percentage points, and `n` images; the interval is that of `bootstrap_seeds`.
    Raises ValueError where a side has no rows or several of one image and seed, and where the sides' images or seeds
    differ.

    >>> import vlsm_helpers as vlsm
    >>> rows = vlsm.measured("hybrid_ensembles")
    >>> gain = vlsm.paired_gain(rows[rows["dataset"] == "busi"], "A", "UNet-D")
    >>> print(f"{gain['value']:+.1f} points [{gain['low']:+.1f}, {gain['high']:+.1f}]")
    -0.1 points [-7.5, +7.7]
    """
    one, other = (_by_seed(rows, side if isinstance(side, Mapping) else {by: side}, metric) for side in (first, second))
    if not (one.index.equals(other.index) and one.columns.equals(other.columns)):
        raise ValueError(f"{first!r} and {second!r} were not scored on the same images with the same seeds")
    mean, low, high, n = bootstrap_seeds(100 * (one - other).to_numpy(), resamples=resamples, seed=seed)
    return {"value": mean, "low": low, "high": high, "n": n}


def _by_seed(rows: pd.DataFrame, chosen: Mapping[str, object], metric: str) -> pd.DataFrame:
    """Scores of the rows with these values: one row per seed, one column per image."""
    part = rows[(rows[list(chosen)] == list(chosen.values())).all(axis=1)]
    if part.empty:
        raise ValueError(f"no row has {dict(chosen)}")
    if part.duplicated(["seed", "id"]).any():
        raise ValueError(f"several rows of one image and seed have {dict(chosen)}: choose one dataset first")
    return part.pivot(index="seed", columns="id", values=metric)
