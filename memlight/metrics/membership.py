"""Membership: can one tell from a score which images an encoder was trained on? Chance is .5.

AUC is the chance that a member scores higher than a non-member (ties count half); its interval is that of DeLong et
al. 1988, its sentence over many layers rests on max-T over relabelled images (`auc_family`). Arrays only.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from memlight.stats import critical_value, relabelled_sums, step_down

Floats = NDArray[np.float64]


class AUC(NamedTuple):
    """Area under the ROC curve with its two-sided 95 % interval over images; ``se`` is its standard error."""

    value: float
    low: float
    high: float
    se: float


class Rate(NamedTuple):
    """A true positive rate with its two-sided 95 % Clopper-Pearson interval; NaN with too few negatives."""

    value: float
    low: float
    high: float


class AUCFamily(NamedTuple):
    """AUC of every layer with what may be said of it; each array is ``(L,)``.

    Attributes:
        auc: area under the ROC curve.
        low: lower end of the layer's own 95 % interval (DeLong, pointwise).
        high: upper end of it.
        simultaneous_low: lower end of the band that holds all layers at once in 95 of 100 cases.
        simultaneous_high: upper end of it.
        p_adjusted: the least family-wise error rate at which the layer differs from .5 (two-sided, step-down max-T).
    """

    auc: Floats
    low: Floats
    high: Floats
    simultaneous_low: Floats
    simultaneous_high: Floats
    p_adjusted: Floats


def auc(positive_N: ArrayLike, negative_M: ArrayLike) -> AUC:
    """Area under the ROC curve, with DeLong's interval (DeLong, DeLong and Clarke-Pearson 1988, eq 5).

    Args:
        positive_N: ``(N,)`` scores of members.
        negative_M: ``(M,)`` scores of non-members.

    Returns:
        NaN where a group is empty; without an interval where one has fewer than two.
    """
    return mean_auc([(positive_N, negative_M)])


def mean_auc(groups: Sequence[tuple[ArrayLike, ArrayLike]], *, same_negatives: bool = False) -> AUC:
    """Mean of several AUCs with its interval, such as that of an attack on either member of a pair.

    Args:
        groups: scores of members and of non-members, ``(N_k,)`` and ``(M_k,)``.
        same_negatives: the non-members of all are the same images in the same order, so that their parts of the error
            are correlated; otherwise all images are different ones.
    """
    parts = [placements(positive, negative) for positive, negative in groups]
    if any(min(len(members), len(others)) == 0 for members, others in parts):
        return AUC(*[np.nan] * 4)
    value = float(np.mean([members.mean() for members, _ in parts]))
    negatives = [np.sum([others for _, others in parts], axis=0)] if same_negatives else [others for _, others in parts]
    variance = sum(_variance(each) for each in [*(members for members, _ in parts), *negatives]) / len(parts) ** 2
    se = float(np.sqrt(variance))
    half = float(stats.norm.ppf(0.975)) * se
    return AUC(value, max(0.0, value - half), min(1.0, value + half), se)


def placements(positive_N: ArrayLike, negative_M: ArrayLike) -> tuple[Floats, Floats]:
    """Share of the other group that each score wins against, ties counted half: ``(N,)`` and ``(M,)``.

    For a member it is the share of non-members below it, for a non-member the share of members above it: the mean of
    either is the AUC.
    """
    positive, negative = np.asarray(positive_N, dtype=np.float64), np.asarray(negative_M, dtype=np.float64)
    n, m = len(positive), len(negative)
    if min(n, m) == 0:
        return np.empty(0), np.empty(0)
    ranks = stats.rankdata(np.concatenate([positive, negative]))
    of_members = (ranks[:n] - stats.rankdata(positive)) / m
    return of_members, 1 - (ranks[n:] - stats.rankdata(negative)) / n


def auc_if_normal(contrast: ArrayLike, variance_candidate: ArrayLike, variance_independent: ArrayLike) -> Floats:
    """The AUC that normal scores of such a contrast have: ``Phi(2 contrast / sqrt(v_c + v_i))``.

    Args:
        contrast: half the difference of the two groups' means.
        variance_candidate: of the candidates' scores.
        variance_independent: of the independent images' scores.
    """
    spread = np.sqrt(np.asarray(variance_candidate, dtype=np.float64) + np.asarray(variance_independent))
    with np.errstate(divide="ignore", invalid="ignore"):
        result: Floats = stats.norm.cdf(2 * np.asarray(contrast, dtype=np.float64) / spread)
    return result


def tpr_at(fpr: float, positive: ArrayLike, negative: ArrayLike) -> Rate:
    """Share of members found while at most a share ``fpr`` of the non-members is taken for members.

    Args:
        fpr: the false positive rate, such as .01.
        positive: ``(N,)`` scores of members.
        negative: ``(M,)`` scores of non-members.

    Returns:
        NaN without members, or with fewer than ``1 / fpr`` non-members, which cannot show so small a rate.
    """
    return tpr_over([(positive, negative)], fpr)


def tpr_over(groups: Sequence[tuple[ArrayLike, ArrayLike]], fpr: float) -> Rate:
    """`tpr_at` with a threshold for each group of members and non-members, and the members of all counted together."""
    found = members = 0
    for positive_N, negative_M in groups:
        positive, negative = np.asarray(positive_N, dtype=np.float64), np.asarray(negative_M, dtype=np.float64)
        allowed = int(np.floor(fpr * len(negative) + 1e-9))
        if allowed < 1 or len(positive) == 0:
            return Rate(np.nan, np.nan, np.nan)
        threshold = np.sort(negative)[::-1][allowed] if allowed < len(negative) else -np.inf
        found += int((positive > threshold).sum())
        members += len(positive)
    interval = stats.binomtest(found, members).proportion_ci(0.95, method="exact")
    return Rate(found / members, float(interval.low), float(interval.high))


def auc_family(
    positive_NL: ArrayLike,
    negative_ML: ArrayLike,
    permutations: int = 10_000,
    seed: int = 0,
    *,
    confidence: float = 0.95,
) -> AUCFamily:
    """The AUC of all layers, tested together: one relabelling of the images for all layers (Westfall and Young 1993).

    The statistic is ``(AUC - .5)`` over its standard deviation under relabelling; the band is ``AUC ± c se``, se by
    DeLong and c the 95 % quantile of the largest statistic over layers.

    Args:
        positive_NL: ``(N, L)`` scores of members on each layer.
        negative_ML: ``(M, L)`` scores of non-members.
        permutations: P, relabellings.
        seed: of the relabellings, which are those of `memlight.stats.family` for the same seed and groups.
        confidence: of the band.

    Returns:
        NaN where a group has fewer than two images; .5 and p 1 where a layer has no spread.
    """
    positive, negative = np.asarray(positive_NL, dtype=np.float64), np.asarray(negative_ML, dtype=np.float64)
    n, m, layers = len(positive), len(negative), positive.shape[1]
    result = np.full((6, layers), np.nan)
    if min(n, m) < 2 or layers == 0:
        return AUCFamily(*result)
    pooled = np.concatenate([positive, negative])
    ranks = stats.rankdata(pooled, axis=0)
    centred = ranks - ranks.mean(0)
    # Rank sums under relabelling: mean n (n + m + 1) / 2, variance from the ranks themselves, ties included.
    deviation = np.sqrt(n * m / ((n + m) * (n + m - 1)) * (centred**2).sum(0))
    spread = deviation > 0
    if spread.any():
        null = np.concatenate(list(relabelled_sums(centred[:, spread], n, permutations, seed))) / deviation[spread]
        c = critical_value(null, confidence)
        observed = centred[:n, spread].sum(0) / deviation[spread]
        areas = np.array([auc(positive[:, layer], negative[:, layer]) for layer in np.flatnonzero(spread)])
        value, low, high, se = areas.T
        band = np.maximum(0, value - c * se), np.minimum(1, value + c * se)
        result[:, spread] = [value, low, high, *band, step_down(observed, null)]
    result[:, ~spread] = [[0.5]] * 5 + [[1.0]]
    return AUCFamily(*result)


def _variance(values: Floats) -> float:
    """Of the mean of ``values``; NaN for fewer than two."""
    return float(values.var(ddof=1)) / len(values) if len(values) > 1 else float("nan")
