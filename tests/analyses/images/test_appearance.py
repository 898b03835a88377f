"""Correlations and comparisons of descriptors against scipy, and where nothing varies."""

from itertools import permutations

import numpy as np
import pytest
from scipy import stats
from scipy.stats import rankdata
from sklearn.linear_model import LogisticRegression

from memlight.analyses.images.appearance import (
    matched_comparison,
    matched_pairs,
    rank_correlations,
    sign_flips,
    standardised,
    unexplained,
)
from memlight.stats import permutation_p


def test_rank_correlations_and_their_p_are_those_of_scipy() -> None:
    rng = np.random.default_rng(0)
    counts = rng.poisson(0.4, 120)
    descriptors = np.column_stack([rng.normal(size=120) + 0.5 * counts, rng.normal(size=120), np.full(120, 0.3)])
    found = rank_correlations(descriptors, counts, draws=4000, seed=1)
    for column in range(2):
        expected = stats.spearmanr(descriptors[:, column], counts)
        assert found.value[column] == pytest.approx(expected.statistic)
        p = permutation_p(found.value, found.null)[column]
        assert p == pytest.approx(expected.pvalue, abs=0.03)
    assert np.isnan(found.value[2])
    assert abs(found.null[:, :2].mean()) < 0.01 and found.null[:, 1].std() == pytest.approx(1 / np.sqrt(119), rel=0.1)
    again = rank_correlations(descriptors[:, 1:2], counts, draws=4000, seed=1)
    np.testing.assert_allclose(again.null[:, 0], found.null[:, 1])  # whatever else is tested


def test_no_owner_or_equal_owners_have_no_correlation() -> None:
    descriptors = np.random.default_rng(0).normal(size=(20, 2))
    assert np.isnan(rank_correlations(descriptors, np.zeros(20), draws=10).value).all()


def test_a_constant_descriptor_is_neither_compared_nor_matched_on() -> None:
    rng = np.random.default_rng(0)
    descriptors, owner = rng.normal(size=(80, 3)), np.arange(80) % 4 == 0
    labels = np.full(80, -1)
    alone = matched_comparison(descriptors, owner, labels, draws=100)
    beside = matched_comparison(np.insert(descriptors, 1, 0.7, axis=1), owner, labels, draws=100)
    for name in ("unmatched", "pairs", "imbalance", "imbalance_unmatched"):
        values = getattr(beside, name)
        np.testing.assert_allclose(np.delete(values, 1), getattr(alone, name))
        assert name == "pairs" or np.isnan(values[1])
    np.testing.assert_allclose(np.delete(beside.difference.value, 1), alone.difference.value)
    assert beside.pairs[1] == 0
    np.testing.assert_allclose(
        alone.unmatched, (descriptors[owner].mean(0) - descriptors[~owner].mean(0)) / descriptors.std(0)
    )


def test_pairs_have_the_least_total_distance() -> None:
    """Against every assignment; covariates say nothing of who owns, so no caliper is far."""
    rng = np.random.default_rng(1)
    covariates = rng.normal(size=(9, 2))
    owner = np.zeros(9, dtype=bool)
    owner[[1, 4, 6]] = True
    ranks = standardised(rankdata(covariates, axis=0))
    inverse = np.linalg.inv(ranks.T @ ranks / 9)
    pairs, _ = matched_pairs(covariates, owner, np.full(9, -1))

    def distance(rows: list[tuple[int, int]]) -> float:
        return sum(float(np.sqrt((ranks[i] - ranks[j]) @ inverse @ (ranks[i] - ranks[j]))) for i, j in rows)

    controls = np.flatnonzero(~owner).tolist()
    possible = [list(zip(pairs[:, 0].tolist(), chosen, strict=True)) for chosen in permutations(controls, len(pairs))]
    assert len(pairs) > 0 and owner[pairs[:, 0]].all() and not owner[pairs[:, 1]].any()
    assert len(set(pairs[:, 1].tolist())) == len(pairs)
    scaled = standardised(covariates)
    logit = LogisticRegression(max_iter=1000).fit(scaled, owner).decision_function(scaled)
    allowed = [rows for rows in possible if all(abs(logit[i] - logit[j]) <= 0.2 * logit.std() for i, j in rows)]
    assert distance([(int(i), int(j)) for i, j in pairs]) == pytest.approx(min(map(distance, allowed)))


def test_pairs_are_of_one_class_where_that_costs_few_of_them() -> None:
    rng = np.random.default_rng(0)
    covariates, owner = rng.normal(size=(200, 3)), np.arange(200) % 5 == 0
    classes = rng.integers(0, 2, 200)
    pairs, within = matched_pairs(covariates, owner, classes)
    assert within and (classes[pairs[:, 0]] == classes[pairs[:, 1]]).all() and len(pairs) >= 32
    alone = matched_pairs(covariates, owner, np.arange(200))
    assert not alone.within_class and len(alone.pairs) >= 32, "every image is a class of its own"
    unlabelled = matched_pairs(covariates, owner, np.full(200, -1))
    assert not unlabelled.within_class and np.array_equal(unlabelled.pairs, alone.pairs)


@pytest.mark.parametrize("owners", [0, 20])
def test_without_owners_or_without_others_there_are_no_pairs(owners: int) -> None:
    descriptors = np.random.default_rng(0).normal(size=(20, 3))
    owner = np.arange(20) < owners
    assert len(matched_pairs(descriptors, owner, np.zeros(20)).pairs) == 0
    found = matched_comparison(descriptors, owner, np.zeros(20, dtype=np.int64), draws=10)
    assert np.isnan(found.difference.value).all() and np.isnan(found.unmatched).all() and not found.pairs.any()


def test_sign_flips_are_the_mean_under_coins() -> None:
    null = sign_flips(np.array([1.0, 2.0, 4.0]), draws=4000, seed=0)
    sums = sorted({(a + 2 * b + 4 * c) / 3 for a in (-1, 1) for b in (-1, 1) for c in (-1, 1)})
    found, counts = np.unique(null.round(9), return_counts=True)
    np.testing.assert_allclose(found, sums)
    assert counts.min() > 400  # 500 expected, standard deviation 21


def test_what_the_covariates_explain_is_taken_out() -> None:
    rng = np.random.default_rng(0)
    covariates, owner = rng.normal(size=(50, 2)), np.arange(50) < 10
    left = unexplained(3 + covariates @ [2.0, -1.0] + owner, covariates, owner)
    np.testing.assert_allclose(left, owner, atol=1e-9)  # fitted to the 40 others, so that owning stays in it
    most = ~owner  # 40 owners: fitted to them, what owning adds is missing in the 10 others
    np.testing.assert_allclose(unexplained(covariates[:, 0] + most, covariates, most), most - 1.0, atol=1e-9)


def confounded(rng: np.random.Generator, direct: float) -> tuple[np.ndarray, np.ndarray]:
    """Descriptors 0 to 3 share a cause; owning depends on 1 alone, and on 0 as far as ``direct``."""
    cause = rng.normal(size=(300, 1))
    descriptors = cause + 0.7 * rng.normal(size=(300, 4))
    score = 1.2 * descriptors[:, 1] + direct * descriptors[:, 0] + rng.gumbel(size=300)
    return descriptors, score > np.quantile(score, 0.8)


def test_matching_finds_what_matters_and_not_what_goes_with_it() -> None:
    """Unmatched, descriptor 0 always differs by half a deviation and more; matched, in one of 20 draws by chance."""
    rng, no_labels = np.random.default_rng(0), np.full(300, -1)
    p_none, p_direct, unmatched, imbalance = [], [], [], []
    for draw in range(20):
        found = matched_comparison(*confounded(rng, 0.0), no_labels, draws=300, seed=draw)
        p_none.append(permutation_p(found.difference.value, found.difference.null)[0])
        unmatched.append(found.unmatched[0])
        imbalance.append((found.imbalance[0], found.imbalance_unmatched[0]))
        found = matched_comparison(*confounded(rng, 1.2), no_labels, draws=300, seed=draw)
        p_direct.append(permutation_p(found.difference.value, found.difference.null)[0])
    assert min(unmatched) > 0.3
    assert sum(p < 0.05 for p in p_none) <= 4  # 1 expected; 5 or more once in 400
    assert sum(p < 0.05 for p in p_direct) >= 17
    after, before = np.array(imbalance).mean(0)
    assert after < 0.15 < 0.7 < before
