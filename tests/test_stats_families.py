"""Claims over many layers: max-T against loops, false alarms where nothing is memorised, and coverage."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from memlight.stats import critical_value, family, step_down
from memlight.stats.families import bootstrap_t, relabelled_sums, relabelled_t


def correlated(
    generator: np.random.Generator, images: int, layers: int, correlation: float = 0.8
) -> NDArray[np.float64]:
    """Scores ``(N, L)`` of which neighbouring layers correlate: a first-order autoregression over depth."""
    noise = generator.standard_normal((images, layers))
    for layer in range(1, layers):
        noise[:, layer] = correlation * noise[:, layer - 1] + math.sqrt(1 - correlation**2) * noise[:, layer]
    return noise


def welch_t(candidate: NDArray[np.float64], independent: NDArray[np.float64]) -> float:
    error = math.sqrt(np.var(candidate, ddof=1) / len(candidate) + np.var(independent, ddof=1) / len(independent))
    return float((np.mean(candidate) - np.mean(independent)) / error)


def test_relabelled_t_are_those_of_a_loop() -> None:
    generator = np.random.default_rng(0)
    candidate, independent = generator.standard_normal((12, 3)) + 5, generator.standard_normal((9, 3)) + 4
    null = relabelled_t(candidate, independent, 20, seed=3)
    pooled = np.concatenate([candidate, independent])
    (places,) = (np.concatenate(list(relabelled_sums(np.eye(21), 12, 20, seed=3))) > 0.5,)
    for row, marked in zip(null, places, strict=True):
        assert marked.sum() == 12
        expected = [welch_t(pooled[marked, layer], pooled[~marked, layer]) for layer in range(3)]
        np.testing.assert_allclose(row, expected, rtol=1e-9)


def test_step_down_is_the_loop_of_westfall_and_young() -> None:
    generator = np.random.default_rng(1)
    observed, null = generator.standard_normal(6) * 2, generator.standard_normal((99, 6))
    observed[2] = np.nan
    adjusted = step_down(observed, null)
    assert math.isnan(adjusted[2])
    left = [layer for layer in range(6) if layer != 2]
    before = 0.0
    for layer in sorted(left, key=lambda layer: -abs(observed[layer])):
        reached = sum(max(abs(row[other]) for other in left) >= abs(observed[layer]) for row in null)
        before = max(before, (1 + reached) / 100)
        assert adjusted[layer] == pytest.approx(before)
        left.remove(layer)


def test_the_band_leaves_out_0_only_where_the_adjusted_p_says_so() -> None:
    generator = np.random.default_rng(2)
    for shift in (0.0, 0.15, 0.3):
        found = family(correlated(generator, 250, 8) + shift, correlated(generator, 250, 8), 999)
        outside = (found.simultaneous_low > 0) | (found.simultaneous_high < 0)
        assert (found.p_adjusted[outside] <= 0.05).all()
        assert (found.simultaneous_low <= found.low).all() and (found.simultaneous_high >= found.high).all()


def test_the_critical_value_is_an_order_statistic() -> None:
    assert critical_value(np.arange(1, 100)[:, None]) == 95
    assert critical_value(np.arange(1, 4)[:, None]) == math.inf  # three relabellings decide nothing


def test_one_layer_is_a_family_too() -> None:
    generator = np.random.default_rng(3)
    candidate, independent = generator.standard_normal(300) + 0.5, generator.standard_normal(300)
    found = family(candidate, independent, 999)
    assert found.p_adjusted[0] == pytest.approx(1 / 1000)
    assert found.contrast[0] == pytest.approx((candidate.mean() - independent.mean()) / 2)
    assert found.contrast[0] / found.se[0] == pytest.approx(welch_t(candidate, independent))


def test_layers_without_spread_and_groups_without_images_are_not_claimed() -> None:
    generator = np.random.default_rng(4)
    candidate, independent = generator.standard_normal((30, 3)), generator.standard_normal((30, 3))
    candidate[:, 1] = independent[:, 1] = 0.75
    found = family(candidate, independent, 99)
    assert found.p_adjusted[1] == 1 and found.contrast[1] == found.low[1] == found.high[1] == 0
    assert np.isnan(family(candidate[:1], independent, 99).contrast).all()
    with pytest.raises(ValueError, match="3 and 2 layers"):
        family(candidate, independent[:, :2], 99)


def test_a_claim_does_not_depend_on_the_order_of_layers_or_the_scale() -> None:
    generator = np.random.default_rng(5)
    candidate, independent = correlated(generator, 220, 5) + 0.2, correlated(generator, 240, 5)
    found = family(candidate, independent, 499)
    turned = family(7 * candidate[:, ::-1] + 3, 7 * independent[:, ::-1] + 3, 499)
    np.testing.assert_allclose(turned.p_adjusted[::-1], found.p_adjusted)
    np.testing.assert_allclose(turned.simultaneous_low[::-1], 7 * found.simultaneous_low, rtol=1e-9)


@pytest.mark.parametrize("layers", [10, 53, 161])
def test_where_nothing_is_memorised_a_layer_is_named_in_at_most_7_of_100_draws(layers: int) -> None:
    """Every draw deals the same images anew; the relabellings of one draw serve them all, as each is one of them."""
    generator = np.random.default_rng(6)
    pooled = correlated(generator, 120, layers)
    null = relabelled_t(pooled[:60], pooled[60:], 2999, seed=0)
    draws = relabelled_t(pooled[:60], pooled[60:], 1000, seed=1)
    critical = critical_value(null)
    named = np.abs(draws).max(1) > critical
    assert 0.03 <= named.mean() <= 0.07
    adjusted = np.array([step_down(draw, null).min() for draw in draws[:60]])
    np.testing.assert_array_equal(adjusted <= 0.05, named[:60])
    one_by_one = (np.abs(draws) > 1.96).any(1).mean()
    assert one_by_one > 0.15, "what uncorrected intervals would name"


def test_bootstrap_t_covers_what_the_normal_interval_misses() -> None:
    """A few images of 50 are memorised strongly: the mean's distribution is skewed, and the interval must be too."""
    generator = np.random.default_rng(7)
    truth = math.exp(1) / 2
    covered = {"normal": 0, "bootstrap-t": 0}
    for draw in range(200):
        candidate = np.exp(generator.normal(0, math.sqrt(2), (50, 1)))
        independent = 0.1 * generator.standard_normal((50, 1))
        found = family(candidate, independent, 20, seed=draw, draws=499)
        covered["normal"] += abs(found.contrast[0] - truth) < 1.96 * found.se[0]
        covered["bootstrap-t"] += found.low[0] < truth < found.high[0]
    assert found.quantiles == "bootstrap-t"
    assert covered["bootstrap-t"] >= covered["normal"] + 10


def test_bootstrap_t_of_normal_scores_is_students() -> None:
    generator = np.random.default_rng(8)
    lower, upper, widest = bootstrap_t(generator.standard_normal((400, 4)), generator.standard_normal((400, 4)))
    np.testing.assert_allclose(lower, 1.96, atol=0.2)
    np.testing.assert_allclose(upper, 1.96, atol=0.2)
    assert 2.1 < widest < 2.9


def test_a_column_that_hardly_ever_varies_has_an_endless_interval_and_not_an_undefined_one() -> None:
    """Two of 16 images score 1: resamples without either have no spread, and an infinite t where the groups differ."""
    candidate, independent = np.zeros((16, 1)), np.zeros((16, 1))
    candidate[0] = candidate[1] = 1
    found = family(candidate, independent, 99)
    assert found.high[0] == math.inf and found.low[0] < found.contrast[0] < found.high[0]
    assert 0 < found.p_adjusted[0] <= 1
