"""Confidence intervals of means over images and seeds, of paired differences, and Holm's correction for several of them.

One scheme for all: images, or clusters of them, are resampled with replacement, and seeds where there are several; the interval
is the percentile interval of `RESAMPLES` means (Efron and Tibshirani, An Introduction to the Bootstrap, 1993). The same scores
in the same order therefore have the same interval, whichever of these functions or commands gives it.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

RESAMPLES = 9999
LEVEL = 0.95
_BATCH = 1000  # resamples at a time, to bound the memory


class Interval(NamedTuple):
    """A mean and its interval, in the values' unit, over `n` values (those that are not NaN)."""

    mean: float
    low: float
    high: float
    n: int


def bootstrap_mean(
    values: Sequence[float], *, clusters: Sequence[object] | None = None, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """The mean of `values`, one per image, with its bootstrap interval; NaN values do not count.

    Images are resampled, or, where `clusters` says which belong together (frames of one video, slices of one patient), whole
    clusters: `n` is the number of what was resampled. Fewer than two have no interval: its ends are NaN; no value has no mean
    either. Raises ValueError for another number of clusters than of values.
    """
    values = np.asarray(values, float)
    known = ~np.isnan(values)
    _, members = np.unique(_cluster_numbers(len(values), clusters)[known], return_inverse=True)
    sums, counts = np.bincount(members, values[known]), np.bincount(members)
    return _interval(sums[None], counts, _resampled(sums[None], counts, resamples, seed))


def paired_difference(
    first: Sequence[float], second: Sequence[float], *, clusters: Sequence[object] | None = None, seed: int = 0
) -> Interval:
    """The mean of `first` minus `second`, scores of the same images in the same order, with its bootstrap interval.

    It is `bootstrap_mean` of the differences, `clusters` included. Pairs with a NaN do not count. Raises ValueError for lists
    of different lengths.
    """
    differences = np.asarray(first, float) - np.asarray(second, float)
    return bootstrap_mean(differences, clusters=clusters, seed=seed)


def bootstrap_seeds(
    scores: np.ndarray, *, clusters: Sequence[object] | None = None, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """The mean of scores (K seeds, N images) with an interval in which both seeds and images are resampled.

    Seeds are a level of their own: of three runs on the same images, the images' interval alone is too narrow. For one seed it
    is the interval of `bootstrap_mean`, `clusters` and `n` included. Fewer than two images have no interval: its ends are NaN;
    no scores have no mean either. Raises ValueError for scores of another shape or with a NaN, and for another number of
    clusters than of images.
    """
    return _over_seeds(scores, clusters, resamples, seed)[0]


def scores_by_seed(rows: pd.DataFrame, metric: str = "dice") -> pd.DataFrame:
    """Scores (seeds, images) for `bootstrap_seeds`: one row per seed, one column per image, in the images' order in `rows`.

    `rows`: one row per image and seed, with the columns `seed`, `id` and `metric`. Raises ValueError for several rows of one
    image and seed.
    """
    return rows.pivot(index="seed", columns="id", values=metric)[rows["id"].unique()]


def paired_gain(
    rows: pd.DataFrame,
    first: str | Mapping[str, object],
    second: str | Mapping[str, object],
    *,
    by: str = "model",
    metric: str = "dice",
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, float]:
    """The mean gain of `first` over `second`, paired by image and seed, with its 95 % interval over images and seeds.

    `rows`: one row per image and seed, with the columns `seed`, `id`, `by` and `metric` (a fraction), of one dataset.
    `first`, `second`: a value of the column `by`, such as a model's name, or several columns with their values.
    Returns `value`, `low` and `high` in percentage points, `n` images, and `p`, the two-sided p-value of no gain, for `holm`;
    the interval is that of `bootstrap_seeds`.
    Raises ValueError where a side has no rows or several of one image and seed, and where the sides' images or seeds
    differ.

    >>> import vlsm_helpers as vlsm
    >>> rows = vlsm.measured("hybrid_ensembles")
    >>> gain = vlsm.paired_gain(rows[rows["dataset"] == "busi"], "A", "UNet-D")
    >>> print(f"{gain['value']:+.1f} points [{gain['low']:+.1f}, {gain['high']:+.1f}]")
    -0.1 points [-7.4, +8.1]
    """
    one, other = (_chosen(rows, side if isinstance(side, Mapping) else {by: side}, metric) for side in (first, second))
    if not (one.index.equals(other.index) and one.columns.sort_values().equals(other.columns.sort_values())):
        raise ValueError(f"{first!r} and {second!r} were not scored on the same images with the same seeds")
    gains = 100 * (one - other[one.columns]).to_numpy()
    (mean, low, high, n), means = _over_seeds(gains, None, resamples, seed)
    return {"value": mean, "low": low, "high": high, "n": n, "p": _p_value(means)}


def holm(p_values: Sequence[float]) -> np.ndarray:
    """P-values of M tests adjusted by Holm's step-down method (Scandinavian Journal of Statistics, 1979), in the same order.

    The probability that any true null hypothesis has an adjusted p-value below 0.05 is at most 0.05: what "on N of M datasets"
    has to count. NaN values stay NaN and do not count. Raises ValueError for values outside 0 to 1.

    >>> from vlsm_helpers.metrics.statistics import holm
    >>> [round(float(one), 3) for one in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    p_values = np.asarray(p_values, float)
    if ((p_values < 0) | (p_values > 1)).any():
        raise ValueError("p-values must lie in [0, 1]")
    adjusted = np.full(p_values.shape, np.nan)
    order = np.argsort(p_values, kind="stable")[: int((~np.isnan(p_values)).sum())]  # NaN values are sorted to the end
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(factors * p_values[order]), 1)
    return adjusted


def _cluster_numbers(images: int, clusters: Sequence[object] | None) -> np.ndarray:
    """The number of each image's cluster, from 0; without clusters each image is its own."""
    if clusters is None:
        return np.arange(images)
    if len(clusters) != images:
        raise ValueError(f"{images} images and {len(clusters)} clusters: name the cluster of each image")
    return np.unique(np.asarray(clusters), return_inverse=True)[1]


def _over_seeds(
    scores: np.ndarray, clusters: Sequence[object] | None, resamples: int, seed: int
) -> tuple[Interval, np.ndarray]:
    """What `bootstrap_seeds` returns, and the means (resamples,) of which it is made."""
    scores = np.asarray(scores, float)
    if scores.ndim != 2 or np.isnan(scores).any():
        raise ValueError(f"scores must be (seeds, images) without NaN, not {scores.shape}")
    members = _cluster_numbers(scores.shape[1], clusters)
    counts = np.bincount(members)
    sums = np.zeros((len(scores), len(counts)))
    np.add.at(sums.T, members, scores.T)
    means = _resampled(sums, counts, resamples, seed)
    return _interval(sums, counts, means), means


def _interval(sums: np.ndarray, counts: np.ndarray, means: np.ndarray) -> Interval:
    """The mean with its interval from the sums of scores (K seeds, C clusters), the clusters' numbers of images (C,), and the
    means of resamples."""
    seeds, clusters = sums.shape
    mean = float(sums.sum() / (seeds * counts.sum())) if sums.size else float("nan")
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) if len(means) else [float("nan")] * 2
    return Interval(mean, float(low), float(high), clusters)


def _resampled(sums: np.ndarray, counts: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Means (resamples,) of resampled clusters and seeds; none for fewer than two clusters. A single seed is not resampled."""
    rng, (seeds, clusters), means = np.random.default_rng(seed), sums.shape, []
    if not seeds or clusters < 2:
        return np.zeros(0)
    for start in range(0, resamples, _BATCH):
        chosen = rng.integers(clusters, size=(min(_BATCH, resamples - start), clusters))
        # A row at a time: indexing all of them at once takes four times as long.
        of_seeds = np.stack([row.take(chosen).sum(-1) for row in sums]) / counts.take(chosen).sum(-1)  # (seeds, batch)
        if seeds > 1:
            drawn = rng.integers(seeds, size=of_seeds.T.shape)
            of_seeds = np.take_along_axis(of_seeds, drawn.T, axis=0)
        means.append(of_seeds.mean(0))
    return np.concatenate(means)


def _p_value(means: np.ndarray) -> float:
    """Two-sided p-value of a mean of 0: the level at which the percentile interval of these means would end at 0.

    Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 4.2.5 adds one to both counts.
    """
    if not len(means):
        return float("nan")
    beyond = min((means <= 0).sum(), (means >= 0).sum())
    return float(min(1, 2 * (beyond + 1) / (len(means) + 1)))


def _chosen(rows: pd.DataFrame, chosen: Mapping[str, object], metric: str) -> pd.DataFrame:
    """Scores of the rows with these values: one row per seed, one column per image."""
    part = rows[(rows[list(chosen)] == list(chosen.values())).all(axis=1)]
    if part.empty:
        raise ValueError(f"no row has {dict(chosen)}")
    if part.duplicated(["seed", "id"]).any():
        raise ValueError(f"several rows of one image and seed have {dict(chosen)}: choose one dataset first")
    return scores_by_seed(part, metric)
