"""Do images that own units look different? Rank correlations, and owners beside controls that are alike otherwise."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from scipy.stats import rankdata
from sklearn.linear_model import LogisticRegression

DRAWS = 10_000
"""Relabellings of a test."""

CALIPER = 0.2
"""Most that the propensities of a pair may differ, in standard deviations of their logits (Austin 2011)."""

KEPT_IN_CLASS = 0.8
"""Pairs are made within classes if so large a share of the pairs made regardless of class remains."""

_FORBIDDEN = 1e6
"""Added to the distance of a pair that is not allowed; far more than all distances of a matching together."""

Floats = NDArray[np.float64]
Pairs = NDArray[np.intp]


class Statistics(NamedTuple):
    """A statistic of each descriptor, and the same where owners are assigned at random.

    Attributes:
        value: ``(D,)``; NaN where it is not defined.
        null: ``(R, D)``.
    """

    value: Floats
    null: Floats


class MatchedComparison(NamedTuple):
    """Owners against controls that agree in all descriptors but the one compared.

    Attributes:
        difference: mean of owner minus control over the pairs, in standard deviations of all images, after what the
            other descriptors explain was subtracted; its null draws by a coin which of a pair is the owner.
        unmatched: ``(D,)`` mean of all owners minus mean of all others.
        pairs: ``(D,)`` number of pairs.
        within_class: ``(D,)`` whether both of each pair are of one class.
        imbalance: ``(D,)`` largest mean difference of the pairs in any of the other descriptors.
        imbalance_unmatched: ``(D,)`` the same of all owners and all others.
    """

    difference: Statistics
    unmatched: Floats
    pairs: NDArray[np.int64]
    within_class: NDArray[np.bool_]
    imbalance: Floats
    imbalance_unmatched: Floats


def rank_correlations(
    descriptors_ND: ArrayLike, counts_N: ArrayLike, *, draws: int = DRAWS, seed: int = 0
) -> Statistics:
    """Spearman's correlation of each descriptor with the number of units that an image owns.

    The null permutes the images, so that it has as many owners of as many units, and ties, as there are.

    Args:
        descriptors_ND: a column for each; a constant one has no correlation.
        counts_N: units that each image owns.
        draws: permutations, the same ones for all descriptors.
        seed: of the permutations.
    """
    ranks = standardised(rankdata(np.asarray(descriptors_ND, dtype=np.float64), axis=0))
    owned = standardised(rankdata(np.asarray(counts_N))[:, None])[:, 0]
    generator = np.random.default_rng(seed)
    sizes = [min(100, draws - start) for start in range(0, draws, 100)]
    null = [generator.permuted(np.tile(owned, (size, 1)), axis=1) @ ranks / len(owned) for size in sizes]
    defined = (ranks != 0).any(0) & bool(owned.any())
    return Statistics(np.where(defined, owned @ ranks / len(owned), np.nan), np.concatenate(null))


def matched_comparison(
    descriptors_ND: ArrayLike, owner_N: ArrayLike, labels_N: ArrayLike, *, draws: int = DRAWS, seed: int = 0
) -> MatchedComparison:
    """Compare owners with the others one descriptor at a time, the rest being equal; see `matched_pairs`.

    Args:
        descriptors_ND: a column for each; a constant one is not compared.
        owner_N: which images own a unit.
        labels_N: classes; -1 where there is none.
        draws: coin flips for every pair.
        seed: of the coins.
    """
    scaled, owner = standardised(descriptors_ND), np.asarray(owner_N, dtype=bool)
    images, columns = scaled.shape
    varies = (scaled != 0).any(0)
    both = 0 < owner.sum() < images
    unmatched = np.where(varies, scaled[owner].mean(0) - scaled[~owner].mean(0), np.nan) if both else varies * np.nan
    difference = Statistics(np.full(columns, np.nan), np.full((draws, columns), np.nan))
    pairs, within_class = np.zeros(columns, dtype=np.int64), np.zeros(columns, dtype=bool)
    imbalance, imbalance_unmatched = np.full(columns, np.nan), np.full(columns, np.nan)
    for column in np.flatnonzero(varies & both):
        other = varies & (np.arange(columns) != column)
        others = scaled[:, other]
        matched = matched_pairs(others, owner, labels_N)
        pairs[column], within_class[column] = len(matched.pairs), matched.within_class
        imbalance_unmatched[column] = np.abs(unmatched[other]).max(initial=0)
        if len(matched.pairs):
            left = unexplained(scaled[:, column], others, owner)
            between = left[matched.pairs[:, 0]] - left[matched.pairs[:, 1]]
            difference.value[column] = between.mean()
            difference.null[:, column] = sign_flips(between, draws=draws, seed=seed)
            of_others = others[matched.pairs[:, 0]] - others[matched.pairs[:, 1]]
            imbalance[column] = np.abs(of_others.mean(0)).max(initial=0)
    return MatchedComparison(difference, unmatched, pairs, within_class, imbalance, imbalance_unmatched)


class Matched(NamedTuple):
    """Pairs of an image that owns units and one that does not.

    Attributes:
        pairs: ``(P, 2)`` positions: owner, control. No image is in two pairs.
        within_class: whether both of a pair are of one class.
    """

    pairs: Pairs
    within_class: bool


def matched_pairs(covariates_ND: ArrayLike, owner_N: ArrayLike, labels_N: ArrayLike) -> Matched:
    """Pair owners with controls so that the pairs are as alike as possible in the covariates.

    Optimal pair matching on the rank-based Mahalanobis distance within calipers of the propensity (Rosenbaum 2010,
    Design of Observational Studies, 8.3 and 8.4): as many pairs as the calipers allow, and of these matchings the one
    with the least total distance. The propensity is the logit of owning units, by a logistic regression.

    Args:
        covariates_ND: what the pairs must agree in; none (D = 0) pairs arbitrarily.
        owner_N: which images own units.
        labels_N: classes; -1 where there is none.
    """
    scaled, owner, labels = standardised(covariates_ND), np.asarray(owner_N, dtype=bool), np.asarray(labels_N)
    owners, controls = np.flatnonzero(owner), np.flatnonzero(~owner)
    if not len(owners) or not len(controls):
        return Matched(np.empty((0, 2), dtype=np.intp), within_class=False)
    cost = np.zeros((len(owners), len(controls)))
    if scaled.shape[1]:
        ranks = standardised(rankdata(scaled, axis=0))
        whitened = ranks @ _whitening(ranks)
        propensity = LogisticRegression(max_iter=1000).fit(scaled, owner).decision_function(scaled)
        apart = np.abs(propensity[owners, None] - propensity[None, controls]) > CALIPER * propensity.std()
        cost = cdist(whitened[owners], whitened[controls]) + _FORBIDDEN * apart
    pairs = _assigned(cost, owners, controls)
    if (labels >= 0).all():
        cost[labels[owners, None] != labels[None, controls]] += _FORBIDDEN
        within = _assigned(cost, owners, controls)
        if len(within) >= max(1, KEPT_IN_CLASS * len(pairs)):
            return Matched(within, within_class=True)
    return Matched(pairs, within_class=False)


def unexplained(values_N: ArrayLike, covariates_ND: ArrayLike, owner_N: ArrayLike) -> Floats:
    """What a linear regression on the covariates leaves of the values, ``(N,)``.

    It is fitted to the controls, or to the owners where those are more, so that owning takes no part in it: subtracting
    it from both images of a pair takes out what their covariates still differ in (Abadie and Imbens 2011).

    Args:
        values_N: what is compared.
        covariates_ND: what pairs should agree in.
        owner_N: which images own units.
    """
    values, owner = np.asarray(values_N, dtype=np.float64), np.asarray(owner_N, dtype=bool)
    design = np.column_stack([np.ones(len(values)), standardised(covariates_ND)])
    fitted_to = owner if owner.mean() > 0.5 else ~owner
    weights = np.linalg.lstsq(design[fitted_to], values[fitted_to], rcond=None)[0]
    left: Floats = values - design @ weights
    return left


def standardised(values_ND: ArrayLike) -> Floats:
    """Columns with mean 0 and standard deviation 1; constant ones are 0."""
    values = np.asarray(values_ND, dtype=np.float64)
    spread = values.std(0)
    varies = spread > 1e-12 * np.abs(values).max(0, initial=0)
    scaled: Floats = np.where(varies, (values - values.mean(0)) / np.where(varies, spread, 1), 0)
    return scaled


def sign_flips(differences_P: ArrayLike, *, draws: int, seed: int) -> Floats:
    """Mean difference when owner and control are drawn by a coin in every pair, ``(draws,)``."""
    differences = np.asarray(differences_P, dtype=np.float64)
    generator = np.random.default_rng(seed)
    sizes = [min(1000, draws - start) for start in range(0, draws, 1000)]
    sums = [(2.0 * generator.integers(2, size=(size, len(differences))) - 1) @ differences for size in sizes]
    return np.concatenate(sums) / max(1, len(differences))


def _assigned(cost: Floats, owners: Pairs, controls: Pairs) -> Pairs:
    rows, columns = linear_sum_assignment(cost)
    allowed = cost[rows, columns] < _FORBIDDEN
    return np.stack([owners[rows[allowed]], controls[columns[allowed]]], axis=1)


def _whitening(ranks_ND: Floats) -> Floats:
    """A square root of the inverse covariance, ``(D, D)``; directions in which nothing varies count for nothing."""
    values, vectors = np.linalg.eigh(ranks_ND.T @ ranks_ND / len(ranks_ND))
    kept = values > 1e-9 * values.max(initial=0)
    whitening: Floats = vectors * np.where(kept, 1 / np.sqrt(np.where(kept, values, 1)), 0)
    return whitening
