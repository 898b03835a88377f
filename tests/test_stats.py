import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from memlight.stats import (
    benjamini_hochberg,
    bootstrap_mean,
    bootstrap_means,
    clustered_mean,
    mean_of,
    normal_interval,
    permutation_interval,
    permutation_p,
    welch,
)


def test_welch_by_hand() -> None:
    a, b = np.array([1.0, 2.0, 4.0, 7.0]), np.array([0.5, 0.7, 3.0])
    variance = a.var(ddof=1) / 4 + b.var(ddof=1) / 3
    t = (a.mean() - b.mean()) / math.sqrt(variance)
    freedom = variance**2 / ((a.var(ddof=1) / 4) ** 2 / 3 + (b.var(ddof=1) / 3) ** 2 / 2)
    result = welch(a, b)
    np.testing.assert_allclose(result, (t, 2 * scipy_stats.t.sf(abs(t), freedom)), rtol=1e-12)
    np.testing.assert_allclose(welch(b, a), (-t, result.p), rtol=1e-12)


def test_welch_of_samples_without_spread() -> None:
    assert all(math.isnan(value) for value in welch([1.0], [2.0, 3.0]))
    assert all(math.isnan(value) for value in welch([1.0, 1.0], [1.0, 1.0]))
    assert welch([1.0, 1.0], [2.0, 2.0]) == (-math.inf, 0.0)


def test_normal_interval() -> None:
    assert normal_interval(1.0, 0.5) == pytest.approx((1.0, 1 - 0.9799819923, 1 + 0.9799819923))
    assert normal_interval(1.0, 0.5, confidence=0.5).high == pytest.approx(1 + 0.5 * 0.6744897502)


def test_bootstrap_agrees_with_theory_and_repeats() -> None:
    sample = np.random.default_rng(0).normal(3.0, 2.0, 500)
    interval = bootstrap_mean(sample, seed=1)
    theory = normal_interval(sample.mean(), sample.std() / math.sqrt(500))
    np.testing.assert_allclose(interval, theory, atol=0.03)
    assert interval == bootstrap_mean(sample, seed=1) != bootstrap_mean(sample, seed=2)
    assert all(math.isnan(value) for value in bootstrap_mean([]))


def test_bootstrap_of_several_columns_shares_its_resamples_and_agrees_with_theory() -> None:
    sample = np.random.default_rng(0).normal(3.0, 2.0, 400)
    low, high = bootstrap_means([sample, sample + 1, -sample])
    np.testing.assert_allclose((low[1], high[1]), (low[0] + 1, high[0] + 1))
    np.testing.assert_allclose((low[2], high[2]), (-high[0], -low[0]))
    np.testing.assert_allclose((low[0], high[0]), normal_interval(sample.mean(), sample.std() / 20)[1:], atol=0.03)
    assert np.isnan(bootstrap_means(np.empty((3, 0)))).all()


def test_bootstrap_of_the_first_items_chooses_them_again_in_every_resample() -> None:
    values = np.sort(np.random.default_rng(1).normal(size=(1, 30)))[:, ::-1]
    generator, means = np.random.default_rng(5), []
    for counts in generator.multinomial(30, np.full(30, 1 / 30), size=60):
        drawn = [value for value, count in zip(values[0], counts, strict=True) for _ in range(count)]
        means.append(np.mean(drawn[:10]))
    expected = np.quantile(means, [0.025, 0.975])
    np.testing.assert_allclose(np.concatenate(bootstrap_means(values, 10, draws=60, seed=5)), expected)
    for found, all_of_them in zip(bootstrap_means(values, 99), bootstrap_means(values), strict=True):
        np.testing.assert_allclose(found, all_of_them)


def test_clustered_mean_equals_loops() -> None:
    rng = np.random.default_rng(0)
    cluster = rng.integers(0, 7, 40)
    sample = rng.normal(size=7)[cluster] + 0.1 * rng.normal(size=40)
    groups = sorted(set(cluster.tolist()))
    totals = [sum(x - sample.mean() for x, c in zip(sample, cluster, strict=True) if c == g) for g in groups]
    error = math.sqrt(len(groups) / (len(groups) - 1) * sum(total**2 for total in totals)) / 40
    half = scipy_stats.t.ppf(0.975, len(groups) - 1) * error
    expected = (sample.mean(), sample.mean() - half, sample.mean() + half)
    np.testing.assert_allclose(clustered_mean(sample, cluster * 100 - 3), expected)
    alone = clustered_mean(sample, np.arange(40))  # each its own cluster: the ordinary standard error
    assert alone.high - alone.value == pytest.approx(scipy_stats.t.ppf(0.975, 39) * scipy_stats.sem(sample))
    assert alone.high < clustered_mean(sample, cluster).high
    assert math.isnan(clustered_mean([1.0, 2.0], [3, 3]).low) and clustered_mean([1.0, 2.0], [3, 3]).value == 1.5
    assert all(math.isnan(value) for value in clustered_mean([], []))


def test_permutation_interval_leaves_out_the_expected_value_exactly_when_the_test_rejects() -> None:
    null = np.random.default_rng(0).normal(0.5, 0.1, 2000)
    low, high = np.quantile(null, [0.025, 0.975])
    for observed in (low - 1e-6, low + 1e-6, 0.5, high - 1e-6, high + 1e-6):
        interval = permutation_interval(observed, null, expected=0.5)
        assert (interval.low <= 0.5 <= interval.high) == (low <= observed <= high)
        assert interval.low <= interval.value <= interval.high


def test_mean_of_nothing_is_nan() -> None:
    assert mean_of([1.0, 3.0]) == 2 and math.isnan(mean_of([]))


def test_benjamini_hochberg_equals_loops() -> None:
    p = [0.2, 0.001, float("nan"), 0.04, 0.03, 0.9, 0.03]
    adjusted = benjamini_hochberg(p)
    made = sorted(value for value in p if not math.isnan(value))
    for value, found in zip(p, adjusted, strict=True):
        if math.isnan(value):
            assert math.isnan(found)
            continue
        # The least rate at which the step-up procedure, with its k-th smallest p against rate * k / m, takes it in.
        rates = [len(made) * made[k] / (k + 1) for k in range(len(made)) if made[k] >= value]
        assert found == pytest.approx(min(1, *rates))
    assert np.isnan(benjamini_hochberg([float("nan")])).all() and benjamini_hochberg([]).size == 0


def test_permutation_p_counts_both_sides_and_the_labels_themselves() -> None:
    null = np.array([[-3.0, 0.0], [1.0, 0.0], [2.0, 0.1], [0.5, 0.0]])
    assert permutation_p([2.0, float("nan")], null).tolist()[0] == 3 / 5
    assert np.isnan(permutation_p([2.0, float("nan")], null)[1])
    assert permutation_p([4.0, 0.05], null).tolist() == [1 / 5, 2 / 5]
