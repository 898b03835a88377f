"""Power against simulations and brute force; components against what was planted."""

import math

import numpy as np
import pytest

from memlight.stats.power import (
    Components,
    detectable_effect,
    images_needed,
    independent_critical_value,
    power_of,
    training_variance,
    view_components,
    view_factor,
)

CIFAR = Components(image=0.4 * 0.025**2, view=0.6 * 0.025**2, training=0.0003**2)


def test_the_error_is_that_of_two_means() -> None:
    variance = 0.025**2 * (0.4 + 0.6 * ((6 + 8) / 20) / ((16 + 8) / 90))
    assert CIFAR.error(700, 5, 3) == pytest.approx(math.sqrt((variance / 700 + variance / 700) / 4 / 3))


def test_what_views_add_is_the_variance_of_a_mean_over_pairs() -> None:
    """Two points on a circle of noise: a pair's distance varies by itself, and with the pairs that share its views."""
    generator = np.random.default_rng(3)

    def mean_over_pairs(draws: int, views: int) -> np.ndarray:
        z = generator.standard_normal((draws, views, 3)) * np.exp(0.2 * generator.standard_normal((draws, views, 1)))
        first, second = np.triu_indices(views, 1)
        return np.linalg.norm(z[:, first] - z[:, second], axis=2).mean(1)

    alone = mean_over_pairs(20_000, 2).var()
    z, y, x = (generator.standard_normal((20_000, 3)) for _ in range(3))
    z, y, x = (point * np.exp(0.2 * generator.standard_normal((20_000, 1))) for point in (z, y, x))
    shared = np.cov(np.linalg.norm(z - y, axis=1), np.linalg.norm(z - x, axis=1))[0, 1]
    for views in (3, 10):
        expected = 2 * (2 * (views - 2) * shared + alone) / (views * (views - 1))
        assert mean_over_pairs(20_000, views).var() == pytest.approx(expected, rel=0.06)
    noise = 2 * ((2 * (np.array([2, 5, 10]) - 2) + 8) / np.array([2, 20, 90]))
    np.testing.assert_allclose(view_factor([2, 5, 10]), noise / noise[2])


@pytest.mark.parametrize("trainings", [1, 4])
def test_power_is_what_simulated_experiments_have(trainings: int) -> None:
    generator = np.random.default_rng(0)
    parts = Components(image=1.0, view=1.0, training=0.05**2)
    effect, images, critical = 0.25, 60, 2.5
    true = effect + 0.05 * generator.standard_normal((4000, trainings))
    groups = [np.sqrt(parts.score(10)) * generator.standard_normal((4000, trainings, images)) for _ in range(2)]
    contrasts = true + (groups[0].mean(2) - groups[1].mean(2)) / 2
    claimed = contrasts.mean(1) > critical * parts.error(images, 10, trainings)
    assert claimed.mean() == pytest.approx(float(power_of(effect, parts, images, 10, trainings, critical)), abs=0.025)


@pytest.mark.parametrize("power", [0.5, 0.8, 0.999])
@pytest.mark.parametrize("critical", [1.96, 2.8])
def test_the_number_of_images_is_the_least_that_is_enough(power: float, critical: float) -> None:
    needed = float(images_needed(0.002, CIFAR, 10, 2, critical, power))
    assert power_of(0.002, CIFAR, needed, 10, 2, critical) >= power
    assert needed == 2 or power_of(0.002, CIFAR, needed - 1, 10, 2, critical) < power


def test_more_views_and_seeds_need_fewer_images() -> None:
    needed = images_needed(0.002, CIFAR, np.array([[2], [10], [40]]), np.array([1, 2, 5]), 2.8)
    assert (np.diff(needed, axis=0) < 0).all() and (np.diff(needed, axis=1) < 0).all()


def test_trainings_that_differ_too_much_are_not_made_up_for_by_images() -> None:
    wild = CIFAR._replace(training=0.004**2)
    assert np.isinf(images_needed(0.002, wild, 10, 1, 2.8))
    assert np.isfinite(images_needed(0.002, wild, 10, 20, 2.8))


def test_critical_values_of_independent_layers() -> None:
    assert independent_critical_value(1) == pytest.approx(1.95996, abs=1e-4)
    assert independent_critical_value(10) == pytest.approx(2.80, abs=0.01)
    largest = np.abs(np.random.default_rng(1).standard_normal((20_000, 10))).max(1)
    assert (largest > independent_critical_value(10)).mean() == pytest.approx(0.05, abs=0.006)


def test_what_is_detectable_is_found_with_the_power() -> None:
    alike = CIFAR._replace(training=0)
    error = alike.error(500, 10)
    effect = float(detectable_effect(error, 2.8, 0.8))
    assert power_of(effect, alike, 500, 10, 1, 2.8) == pytest.approx(0.8)


def test_views_and_trainings_are_told_from_images() -> None:
    views = np.array([2, 10, 40])
    assert view_components(3 + 5 * view_factor(views), views) == pytest.approx((3, 5))
    assert view_components([1, 2], [2, 10]) == pytest.approx((1.2, 0))  # more views cannot add noise
    image, view = view_components([5, 0.1], [2, 20])
    assert image == 0 and view > 0
    generator = np.random.default_rng(2)
    contrasts = 0.3 * generator.standard_normal(4000) + 0.4 * generator.standard_normal(4000)
    assert training_variance(contrasts, np.full(4000, 0.4)) == pytest.approx(0.09, rel=0.1)
    assert training_variance([1, 1.1], [5, 5]) == 0
