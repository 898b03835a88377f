"""Tests and intervals of one sample or two: thin over scipy, on 1-D samples."""

import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

if TYPE_CHECKING:
    from torch import Tensor


class Interval(NamedTuple):
    """An estimate with its two-sided interval."""

    value: float
    low: float
    high: float


class TTest(NamedTuple):
    """A t statistic and its two-sided p-value; both NaN where a sample has fewer than two values."""

    t: float
    p: float


def welch(sample_a: ArrayLike, sample_b: ArrayLike) -> TTest:
    """Welch's two-sided t-test of ``mean(a) - mean(b)``.

    Two samples without any spread give NaN where their means agree and an infinite t (p = 0) where they differ.
    """
    a, b = np.asarray(sample_a, dtype=np.float64), np.asarray(sample_b, dtype=np.float64)
    if len(a) < 2 or len(b) < 2:
        return TTest(float("nan"), float("nan"))
    difference = float(a.mean() - b.mean())
    if np.ptp(a) == 0 and np.ptp(b) == 0:
        return TTest(np.copysign(np.inf, difference), 0.0) if difference else TTest(float("nan"), float("nan"))
    with warnings.catch_warnings():
        # Units that fire on a single image all score 1 to within rounding; their t is huge whatever its last digits.
        warnings.filterwarnings("ignore", message="Precision loss occurred", category=RuntimeWarning)
        result = stats.ttest_ind(a, b, equal_var=False)
    return TTest(float(result.statistic), float(result.pvalue))


def normal_interval(value: float, standard_error: float, confidence: float = 0.95) -> Interval:
    """``value`` plus and minus the normal quantile times its standard error."""
    half = float(stats.norm.ppf(0.5 + confidence / 2)) * standard_error
    return Interval(value, value - half, value + half)


def bootstrap_mean(sample: ArrayLike, *, confidence: float = 0.95, draws: int = 2000, seed: int = 0) -> Interval:
    """Mean of a sample with its percentile bootstrap interval (the sample's items are drawn with replacement)."""
    values = np.asarray(sample, dtype=np.float64)
    if values.size == 0:
        return Interval(float("nan"), float("nan"), float("nan"))
    generator = np.random.default_rng(seed)
    means = np.concatenate(
        [
            generator.choice(values, size=(min(100, draws - start), values.size)).mean(axis=1)
            for start in range(0, draws, 100)
        ]
    )
    low, high = np.quantile(means, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return Interval(float(values.mean()), float(low), float(high))


def bootstrap_means(
    values_CN: ArrayLike, first: int | None = None, *, confidence: float = 0.95, draws: int = 2000, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Percentile bootstrap intervals of several columns' means, with the same resampled items in all of them.

    Args:
        values_CN: ``(C, N)``, a column for each quantity measured on the same N items.
        first: only so many items make up the mean, from the first on, and are chosen again in every resample: with
            items sorted by a score, the mean of those that score highest; all when None.
        confidence: of each interval by itself.
        draws: resamples.
        seed: of the resamples.

    Returns:
        Lower and upper ends, each ``(C,)``; NaN without items.
    """
    values = np.asarray(values_CN, dtype=np.float64)
    columns, items = values.shape
    if items == 0:
        return np.full(columns, np.nan), np.full(columns, np.nan)
    taken = items if first is None else min(first, items)
    generator = np.random.default_rng(seed)
    means = []
    for start in range(0, draws, 100):
        counts = generator.multinomial(items, np.full(items, 1 / items), size=min(100, draws - start))
        counts = np.clip(taken - (counts.cumsum(1) - counts), 0, counts)
        means.append(counts @ values.T / taken)
    low, high = np.quantile(np.concatenate(means), [0.5 - confidence / 2, 0.5 + confidence / 2], axis=0)
    return low, high


def clustered_mean(sample: ArrayLike, clusters: ArrayLike, confidence: float = 0.95) -> Interval:
    """Mean of a sample whose items depend on one another within clusters, with a cluster-robust t interval.

    The variance sums squared totals of deviations over clusters (Liang and Zeger 1986), times G / (G - 1) for G
    clusters; t has G - 1 degrees of freedom. The ends are NaN with fewer than two clusters.

    Args:
        sample: ``(N,)`` values.
        clusters: ``(N,)`` which cluster each belongs to.
        confidence: of the interval.
    """
    values = np.asarray(sample, dtype=np.float64)
    _, cluster = np.unique(np.asarray(clusters), return_inverse=True)
    mean = mean_of(values)
    totals = np.bincount(cluster, values - mean)
    groups = len(totals)
    if groups < 2:
        return Interval(mean, float("nan"), float("nan"))
    error = float(np.sqrt(groups / (groups - 1) * (totals**2).sum())) / len(values)
    half = float(stats.t.ppf(0.5 + confidence / 2, groups - 1)) * error
    return Interval(mean, mean - half, mean + half)


def benjamini_hochberg(p: ArrayLike) -> NDArray[np.float64]:
    """Adjusted p-values: the least false-discovery rate at which each is a discovery (Benjamini and Hochberg 1995).

    Tests that were not made (NaN) stay NaN and do not count.
    """
    values = np.asarray(p, dtype=np.float64)
    made = np.isfinite(values)
    adjusted = np.full_like(values, np.nan)
    if made.any():
        adjusted[made] = stats.false_discovery_control(values[made])
    return adjusted


def permutation_p(observed: ArrayLike, null_R: ArrayLike) -> NDArray[np.float64]:
    """Two-sided p-values of statistics that are 0 in the mean when labels carry no information, at least 1 / (R + 1).

    Args:
        observed: ``(...)`` under the true labels; NaN gives NaN.
        null_R: ``(R, ...)`` under each relabelling.
    """
    value, null = np.abs(np.asarray(observed, dtype=np.float64)), np.abs(np.asarray(null_R, dtype=np.float64))
    as_large = (null >= value * (1 - 1e-12)).sum(0)  # the same value, added up in another order
    return np.where(np.isfinite(value), (1 + as_large) / (1 + len(null)), np.nan)


def permutation_interval(observed: float, null: ArrayLike, expected: float, confidence: float = 0.95) -> Interval:
    """Interval of a shift, by inverting a permutation test.

    The labels carry no information in the permuted statistics, so their spread around ``expected`` is the spread
    of the observed one around its true value. The interval leaves out ``expected`` exactly when the observed
    statistic lies outside the same central part of the permuted ones.

    Args:
        observed: the statistic under the true labels.
        null: the statistic under each relabelling.
        expected: its value when labels carry no information.
        confidence: share of the permuted statistics in the central part.
    """
    low, high = np.quantile(np.asarray(null, dtype=np.float64), [0.5 - confidence / 2, 0.5 + confidence / 2])
    return Interval(observed, observed - (float(high) - expected), observed - (float(low) - expected))


def mean_of(sample: ArrayLike) -> float:
    """Mean, NaN for an empty sample (numpy would warn)."""
    values = np.asarray(sample, dtype=np.float64)
    return float(values.mean()) if values.size else float("nan")


def as_array(values: "Tensor") -> NDArray[Any]:
    """The values as NumPy's, on the CPU."""
    array: NDArray[Any] = values.cpu().numpy()
    return array
