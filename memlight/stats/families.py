"""Claims over many layers at once: adjusted p-values and simultaneous bands that hold for the whole network.

A 95 % interval of each layer by itself is not a claim about a network: where nothing is memorised, at least one of 10
correlated layers lies outside its own interval in one case of six, at least one of 53 in more than half of them. What
stands here holds the chance of any false claim over the whole family at 5 %, however the layers depend on one another.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from memlight.stats.intervals import permutation_interval

Floats = NDArray[np.float64]

SMALL_GROUP = 200
"""Images of a group below which the normal quantile is too short, and intervals come from a bootstrap-t."""

HEAVY_TAIL = 3.0
"""Excess kurtosis (that of a Laplace distribution) from which tails count as heavy, and the same is done."""

_ROUNDING = 1e-12
"""Standard deviation of relabelled statistics of order 1 that rounding alone makes."""

_ENTRIES = 1 << 22
"""Labels of relabelled images held at once."""


class Family(NamedTuple):
    """The contrast of every layer with what may be said of it; each array is ``(L,)``.

    Attributes:
        contrast: half the difference of the two groups' means.
        se: its standard error over images.
        p_adjusted: the least family-wise error rate at which the layer is claimed (two-sided, step-down max-T).
        low: lower end of the layer's own 95 % interval (pointwise).
        high: upper end of it.
        simultaneous_low: lower end of the band that holds all layers at once in 95 of 100 cases.
        simultaneous_high: upper end of it.
        quantiles: how the intervals were made: ``normal``, or ``bootstrap-t`` for small groups and heavy tails.
    """

    contrast: Floats
    se: Floats
    p_adjusted: Floats
    low: Floats
    high: Floats
    simultaneous_low: Floats
    simultaneous_high: Floats
    quantiles: str


def family(
    candidate_NL: ArrayLike,
    independent_ML: ArrayLike,
    permutations: int = 10_000,
    seed: int = 0,
    *,
    confidence: float = 0.95,
    draws: int = 2000,
) -> Family:
    """The contrast of all layers, tested together.

    * ``T_l = contrast_l / se_l``, with the standard error of two groups of unequal variances.
    * p-values: labels are permuted, one relabelling for all layers at once, and T is studentised anew in each (Westfall
      and Young 1993, algorithm 2.8; studentised, so that groups of unequal spread do not disturb it: Chung and Romano
      2013). The observed labelling counts as one, so p is at least ``1 / (permutations + 1)``.
    * simultaneous band: ``contrast_l ± c se_l``, c the 95 % quantile of the largest ``|T|`` over layers among the
      relabellings. A layer whose band leaves out 0 has an adjusted p of at most .05.
    * own interval: the normal quantile; with fewer than `SMALL_GROUP` images in a group, or tails heavier than
      `HEAVY_TAIL`, a bootstrap-t (images drawn with replacement within each group, the same ones for all layers), and
      the band is then no narrower than the bootstrap's.

    Args:
        candidate_NL: ``(N, L)`` score of each candidate image on each layer.
        independent_ML: ``(M, L)`` score of each independent image.
        permutations: P, relabellings; 0 for the layers' own intervals alone.
        seed: of the relabellings and the bootstrap.
        confidence: of the intervals and the band.
        draws: resamples of the bootstrap.

    Returns:
        NaN where a group has fewer than two images. A layer without any spread has an interval of no width, and p 1 if
        its contrast is 0.

    Raises:
        ValueError: the two groups were scored on different numbers of layers.
    """
    candidate, independent = _columns(candidate_NL), _columns(independent_ML)
    if candidate.shape[1] != independent.shape[1]:
        raise ValueError(f"the groups have {candidate.shape[1]} and {independent.shape[1]} layers")
    layers = candidate.shape[1]
    if min(len(candidate), len(independent)) < 2 or layers == 0:
        none = np.full(layers, np.nan)
        return Family(none, none, none, none, none, none, none, "none")
    contrast = (candidate.mean(0) - independent.mean(0)) / 2
    errors = np.sqrt(candidate.var(0, ddof=1) / len(candidate) + independent.var(0, ddof=1) / len(independent)) / 2
    spread = errors > 1e-12 * np.maximum(np.abs(candidate).max(0), np.abs(independent).max(0))
    se, low, high, outer_low, outer_high = np.where(spread, np.nan, [0 * contrast, *[contrast] * 4])
    p_adjusted = np.where(spread | (contrast != 0), np.nan, 1.0)
    quantiles = "normal"
    if spread.any():
        pair, middle, scale = (candidate[:, spread], independent[:, spread]), contrast[spread], errors[spread]
        c, lower, upper = np.nan, *[np.full(len(scale), stats.norm.ppf(0.5 + confidence / 2))] * 2
        if permutations:
            null = relabelled_t(*pair, permutations, seed)
            p_adjusted[spread] = step_down(middle / scale, null)
            c = critical_value(null, confidence)
        if needs_bootstrap(*pair):
            quantiles = "bootstrap-t"
            lower, upper, widest = bootstrap_t(*pair, confidence=confidence, draws=draws, seed=seed)
            c = float(np.maximum(c, widest))
        se[spread], low[spread], high[spread] = scale, middle - lower * scale, middle + upper * scale
        outer_low[spread], outer_high[spread] = middle - c * scale, middle + c * scale
    return Family(contrast, se, p_adjusted, low, high, outer_low, outer_high, quantiles)


def needs_bootstrap(candidate_NL: Floats, independent_ML: Floats) -> bool:
    """Whether a group is small, or its tails are heavy in any layer, so that the normal quantile is too short."""
    groups = (candidate_NL, independent_ML)
    if min(map(len, groups)) < SMALL_GROUP:
        return True
    with np.errstate(invalid="ignore"):
        return any(np.nanmax(stats.kurtosis(group, axis=0)) > HEAVY_TAIL for group in groups)


def relabelled_t(candidate_NL: Floats, independent_ML: Floats, permutations: int, seed: int) -> Floats:
    """T of every layer under permuted labels, ``(P, L)``: one relabelling for all layers, studentised anew."""
    pooled = np.concatenate([candidate_NL, independent_ML])
    pooled = pooled - pooled.mean(0)
    n, m, layers = len(candidate_NL), len(independent_ML), pooled.shape[1]
    both = np.concatenate([pooled, pooled**2], axis=1)
    total = both.sum(0)
    parts = []
    for of_candidates in relabelled_sums(both, n, permutations, seed):
        mean_c, square_c = np.split(of_candidates / n, [layers], axis=1)
        mean_i, square_i = np.split((total - of_candidates) / m, [layers], axis=1)
        variance_c = np.maximum(square_c - mean_c**2, 0) / (n - 1)
        variance_i = np.maximum(square_i - mean_i**2, 0) / (m - 1)
        parts.append(_ratio(mean_c - mean_i, np.sqrt(variance_c + variance_i)))
    return np.concatenate(parts) if parts else np.empty((0, layers))


def relabelled_sums(values_NK: Floats, count: int, permutations: int, seed: int) -> Iterator[Floats]:
    """Sums over ``count`` items drawn at random without replacement, in blocks of relabellings ``(p, K)``.

    Args:
        values_NK: ``(N, K)``, the same items in every column.
        count: how many of the N items carry the label.
        permutations: relabellings over all blocks.
        seed: the same seed gives the same relabellings, whatever the values are.
    """
    items = len(values_NK)
    generator = np.random.default_rng(seed)
    step = max(1, _ENTRIES // max(1, items))
    for start in range(0, permutations, step):
        labels = np.zeros((min(step, permutations - start), items))
        labels[:, :count] = 1
        generator.permuted(labels, axis=1, out=labels)
        yield labels @ values_NK


def step_down(observed_L: ArrayLike, null_PL: ArrayLike) -> Floats:
    """Adjusted two-sided p-values by step-down max-T (Westfall and Young 1993; Ge, Dudoit and Speed 2003, box 2).

    Layers are taken in the order of their ``|T|``. A layer's p is the share of relabellings in which the largest
    ``|T|`` over it and all layers after it reaches the observed one, and no less than that of the layer before.

    Args:
        observed_L: ``(L,)`` statistics that are around 0 where there is nothing; NaN stays NaN and does not count.
        null_PL: ``(P, L)`` the same under each relabelling.
    """
    observed, null = np.abs(np.asarray(observed_L, dtype=np.float64)), np.abs(np.asarray(null_PL, dtype=np.float64))
    adjusted = np.full(observed.shape, np.nan)
    made = np.flatnonzero(np.isfinite(observed))
    if not len(made):
        return adjusted
    order = made[np.argsort(-observed[made], kind="stable")]
    largest = np.maximum.accumulate(null[:, order[::-1]], axis=1)[:, ::-1]
    reached = (largest >= observed[order] * (1 - 1e-12)).sum(0)
    adjusted[order] = np.maximum.accumulate((1 + reached) / (1 + len(null)))
    return adjusted


def critical_value(null_PL: ArrayLike, confidence: float = 0.95) -> float:
    """The value that the largest ``|T|`` over layers exceeds in 5 of 100 relabellings, the observed one among them.

    It is an order statistic and not interpolated, so that a ``|T|`` above it has an adjusted p of at most .05.
    """
    largest = np.sort(np.abs(np.asarray(null_PL, dtype=np.float64)).max(axis=1))
    place = int(np.ceil(confidence * (1 + len(largest)) - 1e-9)) - 1
    return float(largest[place]) if place < len(largest) else float("inf")


class Claim(NamedTuple):
    """One number of a family with what may be said of it.

    Attributes:
        value: the number.
        low: lower end of its own 95 % interval (pointwise).
        high: upper end of it.
        p_adjusted: the least family-wise error rate at which the number is claimed to differ from what is expected.
        simultaneous_low: lower end of the band that holds the whole family at once in 95 of 100 cases.
        simultaneous_high: upper end of it.
    """

    value: float
    low: float
    high: float
    p_adjusted: float
    simultaneous_low: float
    simultaneous_high: float


def claims(values_L: ArrayLike, null_PL: ArrayLike, expected: float = 0.0, confidence: float = 0.95) -> list[Claim]:
    """What may be said of statistics that were made anew under every relabelling, tested together.

    Layers are brought to one scale by the standard deviation of their own statistics over all labellings, the true one
    among them (without it, the true labels would be measured by another rod than the others, and claims come too
    often); then step-down max-T and its critical value (`step_down`, `critical_value`). A layer's own interval inverts
    its permutation test (`memlight.stats.permutation_interval`).

    Args:
        values_L: ``(L,)`` statistics under the true labels, scores or shares of order 1: less spread than `_ROUNDING`
            counts as none.
        null_PL: ``(P, L)`` the same under each relabelling, one relabelling for all layers.
        expected: their value where labels carry no information.
        confidence: of the intervals and the band.

    Returns:
        One for each layer; all but the value NaN where relabelling changes nothing, and where there is no value.
    """
    values, null = np.asarray(values_L, dtype=np.float64), np.asarray(null_PL, dtype=np.float64)
    scale = np.concatenate([values[None], null]).std(axis=0)
    made = np.isfinite(values) & (scale > _ROUNDING)
    p, c = np.full(values.shape, np.nan), np.nan
    if made.any():
        t = (null[:, made] - expected) / scale[made]
        p[made], c = step_down((values[made] - expected) / scale[made], t), critical_value(t, confidence)
    found = []
    for layer, value in enumerate(values.tolist()):
        if not made[layer]:
            found.append(Claim(value, *[float("nan")] * 5))
            continue
        own = permutation_interval(value, null[:, layer], expected, confidence)
        half = c * float(scale[layer])
        found.append(Claim(*own, float(p[layer]), value - half, value + half))
    return found


def bootstrap_t(
    candidate_NL: Floats, independent_ML: Floats, *, confidence: float = 0.95, draws: int = 2000, seed: int = 0
) -> tuple[Floats, Floats, float]:
    """Quantiles of the studentised contrast from resamples of the images within each group (Efron 1982; Hall 1988).

    On either side the farther one of the equal-tailed and of the symmetric quantile is taken. By itself the first held
    the true value in .91 of cases where both groups of 50 are lognormal, the second in .92 where one of them is;
    together they hold it in .94 or more (benchmarks/coverage.py).

    Returns:
        What multiplies the standard error below and above the contrast, each ``(L,)``, and for all layers at once.
    """
    generator = np.random.default_rng([seed, 1])
    layers = candidate_NL.shape[1]
    groups = []
    for group in (candidate_NL, independent_ML):
        centred = group - group.mean(0)
        groups.append(np.concatenate([centred, centred**2], axis=1))
    parts = []
    step = max(1, _ENTRIES // max(map(len, groups)))
    for start in range(0, draws, step):
        size = min(step, draws - start)
        shift, variance = np.zeros((2, size, layers))
        for sign, values in zip((1, -1), groups, strict=True):
            items = len(values)
            counts = generator.multinomial(items, np.full(items, 1 / items), size=size)
            mean, square = np.split(counts @ values / items, [layers], axis=1)
            shift += sign * mean
            variance += np.maximum(square - mean**2, 0) / (items - 1)
        parts.append(_ratio(shift, np.sqrt(variance)))
    t = np.concatenate(parts)
    # Resamples without any spread have an infinite t; between two of those there is nothing to interpolate.
    low = np.quantile(t, 0.5 - confidence / 2, axis=0, method="lower")
    high = np.quantile(t, 0.5 + confidence / 2, axis=0, method="higher")
    symmetric = np.quantile(np.abs(t), confidence, axis=0, method="higher")
    return np.maximum(high, symmetric), np.maximum(-low, symmetric), critical_value(t, confidence)


def _columns(values: ArrayLike) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    return array[:, None] if array.ndim == 1 else array


def _ratio(value: Floats, scale: Floats) -> Floats:
    """``value / scale``; 0 where both are 0, infinite where only the scale is."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(scale > 0, value / scale, np.where(value == 0, 0.0, np.copysign(np.inf, value)))
