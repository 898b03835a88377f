"""The null score against plain loops and against simulated noise."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy import stats

from memlight.metrics.null import FEWEST_UNITS, TAIL, layer_tail, null_draw, unitmem_null

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


def p95_gap_by_loops(spacings: list[list[float]]) -> list[float]:
    """95th percentile of X_1 - X_2 of each unit, from the most likely common shape and tails simulated with it."""
    ranks = range(2, 2 + len(spacings[0]))

    def scale(shape: float, of_unit: Sequence[Any]) -> Any:
        expected = [math.gamma(j - shape) / math.gamma(j) for j in ranks]
        return sum(z / e for z, e in zip(of_unit, expected, strict=True)) / len(ranks)

    def likelihood(shape: float) -> float:
        """Of exponential spacings whose means are a scale times what is expected."""
        total = 0.0
        for of_unit in spacings:
            for j, z in zip(ranks, of_unit, strict=True):
                mean = scale(shape, of_unit) * math.gamma(j - shape) / math.gamma(j)
                total += -math.log(mean) - z / mean
        return total

    shape = max((step / 20 for step in range(-40, 31)), key=likelihood)
    x = stats.genpareto.rvs(shape, size=(len(ranks) + 2, 40_000), random_state=np.random.default_rng(7))
    x = -np.sort(-x, axis=0)
    gaps = (x[0] - x[1]) / scale(shape, [j * (x[j - 1] - x[j]) for j in ranks])
    return [scale(shape, of_unit) * float(np.quantile(gaps, 0.95)) for of_unit in spacings]


@pytest.mark.parametrize(("n", "taken"), [(4, 4), (60, 12), (500, TAIL)])
def test_null_equals_loops(n: int, taken: int) -> None:
    mu = np.random.default_rng(n).gamma(2.0, size=(n, 5))
    ordered = [sorted(column, reverse=True) for column in mu.T]
    spacings = [[j * (column[j - 1] - column[j]) for j in range(2, taken)] for column in ordered]
    relative = [sum(unit[i] / np.mean(unit) for unit in spacings) / 5 for i in range(taken - 2)]
    fit = stats.linregress(np.log(range(2, taken)), relative)
    expected, p95 = unitmem_null(np.array(ordered).T[:TAIL], [np.mean(column[1:]) for column in ordered], n)
    gaps = p95_gap_by_loops(spacings)
    for unit, column in enumerate(ordered):
        rest, scale = np.mean(column[1:]), np.mean(spacings[unit]) * max(0.0, fit.intercept)
        maxima = column[1] + scale * stats.expon.ppf((np.arange(20_000) + 0.5) / 20_000)
        assert expected[unit] == pytest.approx(np.mean((maxima - rest) / (maxima + rest)), abs=2e-4)
        limit = column[1] + gaps[unit]
        assert p95[unit] == pytest.approx((limit - rest) / (limit + rest), rel=1e-2)


TAILS = {
    "normal": lambda rng, size: 10 + rng.standard_normal(size),
    "lognormal": lambda rng, size: np.exp(0.3 * rng.standard_normal(size)),
    "|t3|": lambda rng, size: np.abs(rng.standard_t(3, size)),
    "uniform": lambda rng, size: rng.random(size),
    "exponential": lambda rng, size: rng.exponential(size=size),
}


def simulated(kinds: tuple[str, ...], n: int, layers: int, units: int = 64) -> tuple[float, list[bool]]:
    """Share of units above their 95th percentile, and whether each layer is said to be calibrated."""
    rng, above, calibrated = np.random.default_rng(n), [], []
    for _ in range(layers):
        mu = np.concatenate([TAILS[kind](rng, (n, units // len(kinds))) for kind in kinds], axis=1)
        scores, _, p95 = scores_and_null(mu)
        above.append((scores > p95).mean())
        calibrated.append(layer_tail(-np.sort(-mu, axis=0)[:TAIL], n).calibrated)
    return float(np.mean(above)), calibrated


@pytest.mark.parametrize("kind", TAILS)
@pytest.mark.parametrize(("n", "layers"), [(50, 80), (600, 40), (5000, 8)])
def test_about_one_unit_in_twenty_exceeds_its_95th_percentile_by_chance(kind: str, n: int, layers: int) -> None:
    """Whatever the tail. Three standard errors of the simulation are .009, .013 and .029."""
    above, calibrated = simulated((kind,), n, layers)
    error = 3 * math.sqrt(0.05 * 0.95 / (64 * layers))
    assert 0.045 - error < above < 0.075 + error
    assert np.mean(calibrated) >= 0.9 - 1 / layers


@pytest.mark.parametrize("kinds", [("uniform", "|t3|"), ("normal", "uniform")])
def test_a_layer_of_tails_of_different_shapes_is_not_called_calibrated(kinds: tuple[str, ...]) -> None:
    above, calibrated = simulated(kinds, 600, 30)
    assert np.mean(calibrated) < 0.05
    assert above < 0.25


def test_too_few_units_and_units_that_few_images_fire_are_not_called_calibrated() -> None:
    rng = np.random.default_rng(0)
    tails = -np.sort(-rng.exponential(size=(600, 64)), axis=0)[:TAIL]
    assert layer_tail(tails, 600).calibrated and abs(layer_tail(tails, 600).shape) < 0.2
    assert not layer_tail(tails[:, : FEWEST_UNITS - 1], 600).calibrated
    tails[5:, 0] = 0  # five images fire it
    assert not layer_tail(tails, 600).calibrated
    assert not layer_tail(tails[:3], 3).calibrated and np.isnan(layer_tail(tails[:3], 3).shape)
    assert not layer_tail(tails[:, :0], 600).calibrated


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
