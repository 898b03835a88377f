"""Rank correlations that are claimed together: their values, intervals and false claims."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from memlight.stats.correlations import spearman_family

STUDIES = 150
MOST = 0.05 + 2 * np.sqrt(0.05 * 0.95 / STUDIES)


def test_each_is_spearman_s_with_ties_and_gaps() -> None:
    rng = np.random.default_rng(0)
    score, measure = rng.normal(size=(50, 3)), np.round(rng.normal(size=(50, 2)))
    measure[::4, 1] = np.nan
    found = spearman_family(score, measure, permutations=20)
    for m in range(2):
        there = np.isfinite(measure[:, m])
        assert (found.n[m] == there.sum()).all()
        for layer in range(3):
            assert found.value[m, layer] == pytest.approx(spearmanr(score[there, layer], measure[there, m]).statistic)
    assert (found.low < found.value).all() and (found.value < found.high).all()


def test_what_is_constant_or_hardly_known_has_none() -> None:
    score = np.stack([np.arange(20.0), np.ones(20)], axis=1)
    measure = np.stack([np.arange(20.0), np.where(np.arange(20) < 3, 1.0, np.nan), np.ones(20)], axis=1)
    found = spearman_family(score, measure, permutations=200)
    assert found.value[0, 0] == pytest.approx(1) and found.p_adjusted[0, 0] < 0.02
    for array in (found.value, found.low, found.p_adjusted):
        assert np.isnan(array[0, 1]) and np.isnan(array[1:]).all()
    assert found.n[:, 0].tolist() == [20, 3, 20]


def test_where_nothing_is_in_common_any_is_claimed_in_5_of_100_cases() -> None:
    """Layers are alike, scores have ties, and one of them is missing for many images."""
    rng, said = np.random.default_rng(1), 0
    for study in range(STUDIES):
        score = rng.normal(size=(40, 1)) + 0.5 * rng.normal(size=(40, 6))
        measure = np.round(rng.normal(size=(40, 2)), 1)
        measure[rng.random(40) < 0.4, 1] = np.nan
        said += bool((spearman_family(score, measure, permutations=200, seed=study).p_adjusted <= 0.05).any())
    assert said / STUDIES <= MOST


@pytest.mark.parametrize("pearson", [0.0, 0.6])
def test_intervals_hold_the_truth_in_95_of_100_cases(pearson: float) -> None:
    rng, held, truth = np.random.default_rng(2), 0, 6 / np.pi * np.arcsin(pearson / 2)
    for _ in range(300):
        a, b = rng.normal(size=(2, 60, 1))
        found = spearman_family(a, pearson * a + np.sqrt(1 - pearson**2) * b, permutations=0)
        held += bool(found.low[0, 0] <= truth <= found.high[0, 0])
    assert 0.92 <= held / 300 <= 0.98


def test_the_same_seed_gives_the_same_p() -> None:
    rng = np.random.default_rng(3)
    score, measure = rng.normal(size=(30, 2)), rng.normal(size=(30, 1))
    one, two = (spearman_family(score, measure, permutations=100, seed=5).p_adjusted for _ in range(2))
    np.testing.assert_array_equal(one, two)
