"""The null score against simulated noise."""

import numpy as np
import pytest
from scipy import stats

from memlight.metrics.null import unitmem_null

UNITS = 400


def draws(kind: str, n: int) -> np.ndarray:
    rng = np.random.default_rng(n)
    return {
        "lognormal": lambda: np.exp(0.3 * rng.standard_normal((n, UNITS))),
        "gamma": lambda: rng.gamma(2.0, size=(n, UNITS)),
        "normal": lambda: 1 + 0.2 * rng.standard_normal((n, UNITS)),
    }[kind]()


def scores_and_null(mu: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    others, strongest = np.split(np.sort(mu, axis=0), [-1])
    rest = others.mean(0)
    expected, p95 = unitmem_null(rest, others.var(0), stats.skew(others), len(mu))
    return ((strongest - rest) / (strongest + rest)).ravel(), expected, p95


@pytest.mark.parametrize("kind", ["lognormal", "gamma", "normal"])
@pytest.mark.parametrize("n", [100, 1000, 10_000])
def test_null_is_what_noise_scores(kind: str, n: int) -> None:
    scores, expected, p95 = scores_and_null(draws(kind, n))
    tolerance = 0.025 if kind == "lognormal" else 0.02
    assert abs(scores.mean() - expected.mean()) < tolerance
    assert abs(np.quantile(scores, 0.95) - p95.mean()) < 0.05


@pytest.mark.parametrize(("n", "published"), [(100, 0.34), (1000, 0.43), (10_000, 0.50)])
def test_noise_scores_the_published_numbers(n: int, published: float) -> None:
    scores, expected, _ = scores_and_null(draws("lognormal", n))
    assert abs(scores.mean() - published) < 0.01
    assert abs(expected.mean() - published) < 0.025


def test_an_outlier_does_not_explain_itself() -> None:
    mu = draws("gamma", 1000)
    _, without, _ = scores_and_null(mu)
    mu[0] = 40
    scores, expected, p95 = scores_and_null(mu)
    assert (scores > p95 + 0.05).all()
    np.testing.assert_allclose(expected.mean(), without.mean(), atol=0.02)


def test_units_without_spread_score_zero() -> None:
    expected, p95 = unitmem_null([0.0, 2.0], [0.0, 0.0], [0.0, 0.0], 50)
    np.testing.assert_allclose(np.concatenate([expected, p95]), 0, atol=1e-12)


@pytest.mark.parametrize("skew", [-3.0, 0.0, 100.0])
def test_extreme_moments_stay_in_range(skew: float) -> None:
    expected, p95 = unitmem_null([1.0, 1.0], [1e-6, 25.0], [skew, skew], 20)
    assert ((expected >= 0) & (expected <= p95) & (p95 <= 1)).all()
