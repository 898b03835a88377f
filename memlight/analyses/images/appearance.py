"""Do images that own units look different? Rank correlations and matched comparisons, each with its null."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from memlight.analyses.images.matching import matched_pairs, sign_flips, standardised, unexplained

DRAWS = 10_000
"""Relabellings of a test."""

Floats = NDArray[np.float64]


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
