"""Rank correlations and fifths as means of pseudo-values: against scipy, the jackknife, loops and simulations."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from memlight.stats import family
from memlight.stats.ranks import fifths, fifths_means_parts, fifths_parts, spearman_parts

Floats = np.ndarray


def scores_and_measures(images: int = 150) -> tuple[Floats, Floats]:
    """Three columns each; the measures hold many ties."""
    generator = np.random.default_rng(0)
    score = generator.standard_normal((images, 3))
    related = 0.6 * score[:, 0] + 0.8 * generator.standard_normal(images)
    return score, np.stack([related, np.round(2 * score[:, 1]), generator.integers(0, 3, images)], axis=1)


def test_the_mean_is_spearmans_rho_and_the_parts_are_the_jackknifes() -> None:
    score, measure = scores_and_measures()
    parts = spearman_parts(score, measure)
    images = len(score)
    for layer in range(3):
        for column in range(3):
            x, y = score[:, layer], measure[:, column]
            rho = spearmanr(x, y).statistic
            assert parts[:, layer, column].mean() == pytest.approx(rho)
            for left_out in range(0, images, 30):
                without = spearmanr(np.delete(x, left_out), np.delete(y, left_out)).statistic
                jackknifed = images * rho - (images - 1) * without
                assert parts[left_out, layer, column] == pytest.approx(jackknifed, abs=0.03)


def test_the_variance_of_the_mean_is_rhos_also_where_it_is_large() -> None:
    generator = np.random.default_rng(1)
    found, predicted = [], []
    for _ in range(600):
        x = generator.standard_normal((100, 1))
        parts = spearman_parts(x, np.round(2 * (x + generator.standard_normal((100, 1)))))[:, 0, 0]
        found.append(parts.mean())
        predicted.append(parts.var(ddof=1) / 100)
    assert np.mean(predicted) == pytest.approx(np.var(found), rel=0.15)
    assert np.mean(found) > 0.6


def test_signs_turn_and_constants_have_no_rho() -> None:
    score, measure = scores_and_measures()
    measure[:, 1] = 4
    parts = spearman_parts(score, measure)
    np.testing.assert_allclose(spearman_parts(-score, measure), -parts, atol=1e-12)
    assert np.isnan(parts[:, :, 1]).all() and np.isfinite(parts[:, :, [0, 2]]).all()
    assert np.isnan(fifths_parts(score, measure)[:, :, 1]).all()


def test_fifths_without_ties_are_those_of_a_sort() -> None:
    score, measure = scores_and_measures(103)
    order = np.argsort(measure[:, 0])
    parts = fifths_parts(score, measure)
    top, bottom = score[order[-20:], 1], score[order[:20], 1]
    assert parts[:, 1, 0].mean() == pytest.approx(top.mean() - bottom.mean())
    means = fifths_means_parts(score, measure[:, 0]).mean(1)
    expected = [score[part].mean(0) for part in np.split(order, [20, 41, 62, 83])]
    np.testing.assert_allclose(means, expected)


def test_images_that_are_equal_share_places_whatever_their_order() -> None:
    measure = np.array([1.0, 1, 1, 1, 2, 3, 3, 4, 5, 6])
    weights = fifths(measure[:, None])[:, :, 0]
    np.testing.assert_allclose(weights[0], [0.5] * 4 + [0] * 6)
    np.testing.assert_allclose(weights[1], [0.5] * 4 + [0] * 6)
    np.testing.assert_allclose(weights.sum(0), 1)
    np.testing.assert_allclose(weights.sum(1), 2)
    turned = fifths(measure[::-1, None])[:, ::-1, 0]
    np.testing.assert_allclose(turned, weights)


def test_groups_that_are_equally_correlated_are_told_apart_in_at_most_8_of_100_draws() -> None:
    """A placebo that is correlated too, of another size and another mean score: only the difference is a claim."""
    generator = np.random.default_rng(2)
    named = 0
    for draw in range(150):
        groups = []
        for images, shift in ((90, 3.0), (60, 0.0)):
            measure = generator.standard_normal((images, 2))
            score = shift + measure[:, [0]] + generator.standard_normal((images, 3))
            groups.append(spearman_parts(score, measure).reshape(images, -1))
        named += bool((family(*groups, 199, draw, draws=99).p_adjusted <= 0.05).any())
    assert named <= 12
