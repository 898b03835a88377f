"""The null score against plain loops and against simulated noise."""

import math

import numpy as np
import pytest
from scipy import stats

from memlight.metrics.null import TAIL, null_draw, unitmem_null

UNITS = 200


def draws(kind: str, n: int) -> np.ndarray:
    rng = np.random.default_rng(n)
    return {
        "lognormal": lambda: np.exp(0.3 * rng.standard_normal((n, UNITS))),
        "gamma": lambda: rng.gamma(2.0, size=(n, UNITS)),
        "normal": lambda: 1 + 0.2 * rng.standard_normal((n, UNITS)),
        "bounded": lambda: rng.beta(1.0, 3.0, size=(n, UNITS)),
        "two groups": lambda: np.where(rng.random((n, UNITS)) < 0.1, 1.0, 0.2) + rng.exponential(0.05, (n, UNITS)),
    }[kind]()


def scores_and_null(mu: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    ordered = -np.sort(np.partition(-mu, TAIL, axis=0)[:TAIL], axis=0)
    rest = (mu.sum(0) - ordered[0]) / (len(mu) - 1)
    expected, p95 = unitmem_null(ordered, rest, len(mu))
    return (ordered[0] - rest) / (ordered[0] + rest), expected, p95


@pytest.mark.parametrize("kind", ["lognormal", "gamma", "normal", "bounded", "two groups"])
@pytest.mark.parametrize("n", [100, 1000, 10_000])
def test_null_is_what_noise_scores(kind: str, n: int) -> None:
    scores, expected, p95 = scores_and_null(draws(kind, n))
    error = (scores - expected).std() / math.sqrt(UNITS)
    assert abs((scores - expected).mean()) < 3 * error + (0.02 if n == 100 else 0.002)
    assert (scores > p95).mean() < (0.2 if n == 100 else 0.15)


@pytest.mark.parametrize(("n", "published"), [(100, 0.34), (1000, 0.43), (10_000, 0.50)])
def test_noise_scores_the_published_numbers(n: int, published: float) -> None:
    scores, expected, _ = scores_and_null(draws("lognormal", n))
    assert abs(scores.mean() - published) < 0.01
    assert abs(expected.mean() - published) < 0.015


@pytest.mark.parametrize(("n", "taken"), [(4, 4), (60, 12), (500, TAIL)])
def test_null_equals_loops(n: int, taken: int) -> None:
    mu = np.random.default_rng(n).gamma(2.0, size=(n, 5))
    ordered = [sorted(column, reverse=True) for column in mu.T]
    spacings = [[j * (column[j - 1] - column[j]) for j in range(2, taken)] for column in ordered]
    relative = [sum(unit[i] / np.mean(unit) for unit in spacings) / 5 for i in range(taken - 2)]
    fit = stats.linregress(np.log(range(2, taken)), relative)
    expected, p95 = unitmem_null(np.array(ordered).T[:TAIL], [np.mean(column[1:]) for column in ordered], n)
    for unit, column in enumerate(ordered):
        rest, scale = np.mean(column[1:]), np.mean(spacings[unit]) * max(0.0, fit.intercept)
        maxima = column[1] + scale * stats.expon.ppf((np.arange(20_000) + 0.5) / 20_000)
        assert expected[unit] == pytest.approx(np.mean((maxima - rest) / (maxima + rest)), abs=2e-4)
        limit = column[1] + scale * stats.lomax(taken - 2, scale=taken - 2).ppf(0.95)
        assert p95[unit] == pytest.approx((limit - rest) / (limit + rest))


def test_an_outlier_does_not_explain_itself() -> None:
    mu = draws("gamma", 1000)
    _, without, _ = scores_and_null(mu)
    mu[0, :10] = 40
    scores, expected, p95 = scores_and_null(mu)
    assert (scores > p95 + 0.05)[:10].all()
    assert abs((expected - without)[:10].mean()) < 0.08
    np.testing.assert_allclose(expected[10:], without[10:], atol=0.01)  # units share the shape of the tail


def test_units_that_do_not_vary_score_what_they_score() -> None:
    expected, p95 = unitmem_null(np.tile([[3.0, 2.0]], (10, 1)), [1.0, 2.0], 50)
    np.testing.assert_allclose([expected, p95], [[0.5, 0], [0.5, 0]], atol=1e-12)


def test_too_few_images_have_no_null() -> None:
    assert np.isnan(unitmem_null([[3.0], [2.0], [1.0]], [1.5], 3)).all()
    assert unitmem_null(np.empty((10, 0)), [], 50)[0].shape == (0,)


def test_draws_have_the_mean_of_the_null_and_repeat() -> None:
    mu = draws("gamma", 1000)
    ordered = -np.sort(-mu, axis=0)[:TAIL]
    rest = (mu.sum(0) - ordered[0]) / 999
    expected, _ = unitmem_null(ordered, rest, 1000)
    generator = np.random.default_rng(0)
    drawn = np.stack([null_draw(ordered, rest, 1000, generator) for _ in range(400)])
    np.testing.assert_allclose(drawn.mean(0), expected, atol=0.02)
    assert (drawn >= (ordered[1] - rest) / (ordered[1] + rest)).all()  # the strongest is at least the second
    again = null_draw(ordered, rest, 1000, np.random.default_rng(0))
    np.testing.assert_array_equal(again, drawn[0])
    assert np.isnan(null_draw(ordered[:3], rest, 3, generator)).all()
