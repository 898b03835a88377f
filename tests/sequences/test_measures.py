"""What was learned and forgotten: ceilings, ranks, correlations, against loops and against METHODS's numbers."""

import math

import numpy as np
import pytest

from memlight.data.sequences import SequenceSet
from memlight.sequences.measures import (
    appearances_at_saturation,
    bayes_ceiling,
    bits_per_parameter,
    head_correlation,
    maximum_learned_rank,
    posterior,
    prefix_row_correlation,
    right,
)


def random(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("law", ["zipf", "uniform"])
@pytest.mark.parametrize("distinct", [True, False])
def test_posterior_is_that_of_loops(law: str, distinct: bool) -> None:
    sequences = SequenceSet(12, 4, law, distinct=distinct, seed=1)  # type: ignore[arg-type]
    bits, law_K = sequences.bits.numpy(), sequences.probabilities.numpy()
    found = posterior(bits, law_K)
    ceiling = bayes_ceiling(bits, law_K)
    accuracy, loss = np.zeros((12, 4)), np.zeros((12, 4))
    for k in range(12):
        for n in range(4):
            alike = [j for j in range(12) if all(bits[j, i] == bits[k, i] for i in range(n))]
            one = sum(law_K[j] for j in alike if bits[j, n]) / sum(law_K[j] for j in alike)
            assert found[k, n] == pytest.approx(one, abs=1e-12)
            guess = 1 if one > 0.5 + 1e-12 else 0
            accuracy[k, n] = guess == bits[k, n]
            loss[k, n] = -math.log(one if bits[k, n] else 1 - one)
    np.testing.assert_allclose(ceiling.loss_N, law_K @ loss, atol=1e-12)
    np.testing.assert_allclose(ceiling.accuracy_N, law_K @ accuracy, atol=1e-12)
    assert ceiling.loss == pytest.approx((law_K @ loss)[1:].mean())
    assert bayes_ceiling(bits, law_K, first=0).accuracy == pytest.approx((law_K @ accuracy).mean())
    assert bayes_ceiling(bits, law_K, np.ones(12)).accuracy == pytest.approx(accuracy.mean(0)[1:].mean())


def test_ceiling_of_methods() -> None:
    """K=500, N=50, uniform: .929 and .113 nats; see the slow test for the large set."""
    sequences = SequenceSet(500, 50, "uniform")
    ceiling = bayes_ceiling(sequences.bits, sequences.probabilities)
    assert ceiling.accuracy == pytest.approx(0.929, abs=0.002)
    assert ceiling.loss == pytest.approx(0.113, abs=0.002)


@pytest.mark.slow
def test_ceiling_of_methods_zipf() -> None:
    sequences = SequenceSet(100_000, 100)
    ceiling = bayes_ceiling(sequences.bits, sequences.probabilities)
    assert ceiling.accuracy == pytest.approx(0.959, abs=0.002)
    assert ceiling.loss == pytest.approx(0.0735, abs=0.002)


def test_undecided_counts_as_zero() -> None:
    assert right([0.0, 0.0, 0.1, -0.1], [0, 1, 1, 1]).tolist() == [True, False, True, False]
    assert right([0.0, 0.0], [-1, 1]).tolist() == [True, False]


def test_saturation_and_rank() -> None:
    accuracy = np.array([[[0.5, 0.95, 0.9], [0.92, 0.5, 0.9], [0.99, 0.99, 0.9]]])
    appearances = np.array([[1, 10, 0], [2, 20, 0], [3, 30, 0]])
    np.testing.assert_array_equal(appearances_at_saturation(accuracy, appearances), [[2, 10, np.nan]])
    np.testing.assert_array_equal(maximum_learned_rank(accuracy[:, 0], [0, 10, 20]), [10])
    np.testing.assert_array_equal(maximum_learned_rank(accuracy[0], [0, 10, 20]), [10, 0, 10])
    np.testing.assert_array_equal(maximum_learned_rank(accuracy[:, 0], [0, 10, 20], threshold=0.99), [-1])


def test_correlations_are_those_of_loops() -> None:
    rows = random(2).normal(size=(2, 6, 3, 6))
    expected = [
        np.mean([np.corrcoef(rows[e, n, h, :n], rows[e, n + 1, h, :n])[0, 1] for n in range(3, 5) for h in range(3)])
        for e in range(2)
    ]
    np.testing.assert_allclose(prefix_row_correlation(rows), expected)
    heads = rows[:, 0]
    pairs = [[np.corrcoef(heads[e])[i, j] for i in range(3) for j in range(i)] for e in range(2)]
    np.testing.assert_allclose(head_correlation(heads), np.mean(pairs, axis=1))


def test_correlations_without_any_variation_are_undefined() -> None:
    uniform = np.full((2, 8, 3, 8), 1 / 7)
    assert np.isnan(prefix_row_correlation(uniform)).all() and np.isnan(head_correlation(uniform[0])).all()
    assert np.isnan(prefix_row_correlation(random(3).normal(size=(3, 2, 3))))  # no two rows share 3 bits
    assert np.isnan(head_correlation(random(3).normal(size=(1, 5))))  # one head
    one_varies = np.concatenate([np.full((1, 5), 0.2), random(4).normal(size=(2, 5))])
    assert head_correlation(one_varies) == pytest.approx(np.corrcoef(one_varies[1:])[0, 1])


def test_bits_per_parameter() -> None:
    nothing, everything = np.full(2, math.log(2)), np.zeros(2)
    np.testing.assert_allclose(bits_per_parameter(nothing, 50, 9, 30), [0, 0], atol=1e-12)
    np.testing.assert_allclose(bits_per_parameter(everything, 50, 9, 30), [15, 15])
