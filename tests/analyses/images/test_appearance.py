"""Correlations and comparisons of descriptors against scipy, and where nothing varies."""

import numpy as np
import pytest
from scipy import stats

from memlight.analyses.images.appearance import matched_comparison, rank_correlations
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
