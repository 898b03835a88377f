"""Rank correlations of several layers with several scores, claimed together."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from memlight.stats.families import step_down

Floats = NDArray[np.float64]

_ENTRIES = 1 << 22
"""Ranks of relabelled images held at once."""


class Correlations(NamedTuple):
    """Spearman's correlation of every score with every layer; each array is ``(S, L)``.

    Attributes:
        value: rho; NaN where a column is constant, or fewer than 4 images have the score.
        low: lower end of its own 95 % interval.
        high: upper end of it.
        p_adjusted: the least family-wise error rate at which it is claimed to differ from 0.
        n: images that have the score.
    """

    value: Floats
    low: Floats
    high: Floats
    p_adjusted: Floats
    n: NDArray[np.int64]


def spearman_family(
    score_NL: ArrayLike, measure_NS: ArrayLike, *, permutations: int = 10_000, seed: int = 0, confidence: float = 0.95
) -> Correlations:
    """Spearman's rank correlation of every layer's score with every measure, all of them tested together.

    * intervals: ``tanh(atanh(rho) ± z sqrt((1 + rho^2 / 2) / (n - 3)))`` (Bonett and Wright 2000, Psychometrika 65,
      23), each by itself;
    * p-values: images are relabelled, one relabelling for all layers, and the largest ``|rho| sqrt(n - 1)`` over layers
      and measures counts (step-down max-T). Each measure has relabellings of its own, since others lack it; measures
      that go together are then tested too strictly rather than too freely.

    Args:
        score_NL: ``(N, L)`` a column for each layer.
        measure_NS: ``(N, S)`` a column for each measure; images where it is NaN are left out of that column.
        permutations: relabellings; 0 leaves p NaN.
        seed: of the relabellings.
        confidence: of the intervals.
    """
    score, measure = np.asarray(score_NL, dtype=np.float64), np.asarray(measure_NS, dtype=np.float64)
    shape = measure.shape[1], score.shape[1]
    value, n = np.full(shape, np.nan), np.zeros(shape, dtype=np.int64)
    null = np.full((permutations, *shape), np.nan)
    for row, of_images in enumerate(measure.T):
        there = np.isfinite(of_images)
        n[row] = there.sum()
        if n[row, 0] < 4:
            continue
        ranks, other = _scaled_ranks(score[there]), _scaled_ranks(of_images[there, None])[:, 0]
        defined = (ranks != 0).any(0) & bool(other.any())
        value[row] = np.where(defined, np.clip(other @ ranks, -1, 1), np.nan)
        null[:, row] = np.where(defined, _relabelled(ranks, other, permutations, (seed, row)), np.nan)
    low, high = _interval(value, n, confidence)
    p = np.full(shape, np.nan)
    if permutations:
        root = np.sqrt(np.maximum(n - 1, 0))
        flat = np.nan_to_num(null * root).reshape(permutations, -1)
        p[...] = step_down((value * root).ravel(), flat).reshape(shape)
    return Correlations(value, low, high, p, n)


def _scaled_ranks(values_NK: Floats) -> Floats:
    """Ranks with mean 0 and sum of squares 1 in every column; 0 in a constant one."""
    ranks = stats.rankdata(values_NK, axis=0)
    ranks -= ranks.mean(0)
    length = np.sqrt((ranks**2).sum(0))
    scaled: Floats = np.divide(ranks, length, out=np.zeros_like(ranks), where=length > 0)
    return scaled


def _relabelled(ranks_NL: Floats, other_N: Floats, permutations: int, seed: tuple[int, int]) -> Floats:
    """The correlations where the measure is dealt to the images at random, ``(P, L)``."""
    generator = np.random.default_rng(seed)
    step = max(1, _ENTRIES // len(other_N))
    parts = [np.empty((0, ranks_NL.shape[1]))]
    for start in range(0, permutations, step):
        dealt = np.tile(other_N, (min(step, permutations - start), 1))
        parts.append(generator.permuted(dealt, axis=1, out=dealt) @ ranks_NL)
    return np.concatenate(parts)


def _interval(value: Floats, n: NDArray[np.int64], confidence: float) -> tuple[Floats, Floats]:
    with np.errstate(divide="ignore", invalid="ignore"):
        half = stats.norm.ppf(0.5 + confidence / 2) * np.sqrt((1 + value**2 / 2) / np.where(n > 3, n - 3, np.nan))
        middle = np.arctanh(np.clip(value, -1 + 1e-12, 1 - 1e-12))
        low, high = np.tanh(middle - half), np.tanh(middle + half)
    return low, high
