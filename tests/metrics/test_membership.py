"""Membership: AUC, its intervals and the true positive rate against loops, scikit-learn and simulations."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score, roc_curve

from memlight.metrics.membership import auc, auc_family, auc_if_normal, mean_auc, placements, tpr_at


def scored(seed: int, members: int = 60, others: int = 45, shift: float = 0.4) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return generator.standard_normal(members) + shift, generator.standard_normal(others)


def test_auc_is_the_share_of_pairs_that_are_in_order() -> None:
    positive, negative = np.array([1.0, 2, 2, 5]), np.array([0.0, 2, 3])
    wins = sum(float(p > n) + 0.5 * float(p == n) for p in positive for n in negative)
    assert auc(positive, negative).value == pytest.approx(wins / 12)


@pytest.mark.parametrize("digits", [1, 12])
def test_auc_is_scikit_learns(digits: int) -> None:
    for seed in range(5):
        positive, negative = (values.round(digits) for values in scored(seed))
        truth = np.r_[np.ones(len(positive)), np.zeros(len(negative))]
        assert auc(positive, negative).value == pytest.approx(
            roc_auc_score(truth, np.r_[positive, negative]), abs=1e-12
        )


def test_placements_are_loops() -> None:
    positive, negative = scored(3, 9, 7)
    of_members, of_others = placements(positive, negative)
    np.testing.assert_allclose(of_members, [(negative < p).mean() for p in positive])
    np.testing.assert_allclose(of_others, [(positive > n).mean() for n in negative])


def test_delongs_error_is_that_of_2000_simulations() -> None:
    generator = np.random.default_rng(0)
    positive, negative = generator.standard_normal((2000, 80)) + 0.5, generator.standard_normal((2000, 60))
    wins = (positive[:, :, None] > negative[:, None, :]).mean((1, 2))
    errors = [auc(*groups).se for groups in zip(positive[:200], negative[:200], strict=True)]
    assert np.mean(errors) == pytest.approx(wins.std(), rel=0.05)


def test_the_mean_of_two_attacks_knows_that_they_share_their_negatives() -> None:
    generator = np.random.default_rng(1)
    values = []
    for _ in range(500):
        others = generator.standard_normal(50)
        groups = [(generator.standard_normal(70) + 0.3, others), (generator.standard_normal(70) + 0.3, -others)]
        values.append(mean_auc(groups, same_negatives=True))
    simulated = np.std([each.value for each in values])
    assert np.mean([each.se for each in values]) == pytest.approx(simulated, rel=0.1)
    apart = mean_auc(groups).se
    assert apart != pytest.approx(values[-1].se, rel=1e-3)


def test_normal_scores_have_the_auc_of_their_contrast() -> None:
    positive, negative = scored(4, 40_000, 40_000, shift=0.6)
    predicted = auc_if_normal((positive.mean() - negative.mean()) / 2, positive.var(), negative.var())
    assert float(predicted) == pytest.approx(auc(positive, negative).value, abs=0.005)


@pytest.mark.parametrize("rate", [0.01, 0.1])
def test_true_positive_rate_is_that_of_the_roc_curve(rate: float) -> None:
    positive, negative = (values.round(1) for values in scored(5, 300, 250, shift=1.5))
    found = tpr_at(rate, positive, negative)
    truth = np.r_[np.ones(len(positive)), np.zeros(len(negative))]
    false, true, _ = roc_curve(truth, np.r_[positive, negative], drop_intermediate=False)
    assert found.value == pytest.approx(true[false <= rate].max())
    count = round(found.value * 300)
    assert found.low == pytest.approx(stats.beta.ppf(0.025, count, 301 - count))
    assert found.high == pytest.approx(stats.beta.ppf(0.975, count + 1, 300 - count))


def test_too_few_negatives_show_no_small_rate() -> None:
    assert np.isnan(tpr_at(0.001, np.ones(5), np.zeros(999)).value)
    assert tpr_at(0.001, np.ones(5), np.zeros(1000)).value == 1
    assert np.isnan(auc([], [1.0]).value)


def test_a_family_of_one_layer_is_the_test_of_mann_and_whitney() -> None:
    positive, negative = scored(6, 40, 40, shift=0.45)
    found = auc_family(positive[:, None], negative[:, None], 19_999)
    expected = stats.mannwhitneyu(positive, negative, method="asymptotic", use_continuity=False).pvalue
    assert found.p_adjusted[0] == pytest.approx(expected, abs=0.006)
    assert found.auc[0] == pytest.approx(auc(positive, negative).value)


def test_a_layer_without_spread_is_chance() -> None:
    positive, negative = scored(7)
    found = auc_family(np.c_[positive, 0 * positive], np.c_[negative, 0 * negative], 99)
    assert found.auc[1] == 0.5
    assert found.p_adjusted[1] == 1 and found.low[1] == found.high[1] == 0.5


def test_where_nothing_is_memorised_a_layer_is_named_in_at_most_7_of_100_draws() -> None:
    """Under a relabelling every draw is one of the relabellings, so one set of them serves all draws."""
    generator = np.random.default_rng(8)
    scores = generator.standard_normal((100, 20)).cumsum(1)
    named = 0
    for _ in range(100):
        order = generator.permutation(100)
        found = auc_family(scores[order[:50]], scores[order[50:]], 199)
        named += bool((found.p_adjusted <= 0.05).any())
    assert named / 100 <= 0.07
