"""What sets images that own units apart from others that are alike in every other respect: matched pairs."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from scipy.stats import rankdata
from sklearn.linear_model import LogisticRegression

CALIPER = 0.2
"""Most that the propensities of a pair may differ, in standard deviations of their logits (Austin 2011)."""

KEPT_IN_CLASS = 0.8
"""Pairs are made within classes if so large a share of the pairs made regardless of class remains."""

_FORBIDDEN = 1e6
"""Added to the distance of a pair that is not allowed; far more than all distances of a matching together."""

Floats = NDArray[np.float64]
Pairs = NDArray[np.intp]


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
    found = _assigned(cost, owners, controls)
    if (labels >= 0).all():
        cost[labels[owners, None] != labels[None, controls]] += _FORBIDDEN
        within = _assigned(cost, owners, controls)
        if len(within) >= max(1, KEPT_IN_CLASS * len(found)):
            return Matched(within, within_class=True)
    return Matched(found, within_class=False)


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
