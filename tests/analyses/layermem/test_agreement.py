"""Agreement of rankings against loops over pairs of images, and against what chance gives."""

import math
from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from memlight.analyses.layermem import agreement
from memlight.analyses.layermem.agreement import (
    TOP,
    chance_overlap,
    kendall_tau,
    layer_agreement,
    pairwise_agreement,
    tau_interval,
    top_count,
    top_overlap,
)
from memlight.analyses.layermem.columns import LAYERMEM_AGREEMENT


def tau_by_loops(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Kendall 1945: concordant minus discordant, over the geometric mean of the pairs that are not tied."""
    difference = untied_a = untied_b = 0
    for i, j in combinations(range(len(a)), 2):
        sign_a, sign_b = np.sign(a[i] - a[j]), np.sign(b[i] - b[j])
        difference += sign_a * sign_b
        untied_a += sign_a != 0
        untied_b += sign_b != 0
    return float(difference / math.sqrt(untied_a * untied_b))


def overlap_by_loops(a: NDArray[np.float64], b: NDArray[np.float64], top: int) -> int:
    highest = [set(sorted(range(len(x)), key=lambda i, x=x: (-x[i], i))[:top]) for x in (a, b)]
    return len(highest[0] & highest[1])


@pytest.mark.parametrize("block", [1, 64, 2**20])
def test_tau_and_overlap_of_all_rankings_are_those_of_loops_over_images(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agreement, "_BLOCK_ENTRIES", block)  # one image at a time, several, all at once
    rng = np.random.default_rng(0)
    scores = np.concatenate([rng.normal(size=(2, 23)), rng.integers(0, 4, (2, 23))])  # the latter have many ties
    tau, overlap = kendall_tau(scores), top_overlap(scores, 6)
    for a in range(4):
        for b in range(4):
            assert tau[a, b] == pytest.approx(tau_by_loops(scores[a], scores[b]), abs=1e-12)
            assert tau[a, b] == pytest.approx(stats.kendalltau(scores[a], scores[b]).statistic, abs=1e-12)
            assert overlap[a, b] == overlap_by_loops(scores[a], scores[b], 6)
    assert len(np.unique(tau.round(6))) > 5


def test_tau_does_not_depend_on_scale_and_turns_with_the_ranking() -> None:
    scores = np.random.default_rng(1).normal(size=50)
    tau = kendall_tau(np.stack([scores, np.exp(3 * scores), -scores]))
    assert tau == pytest.approx(np.array([[1, 1, -1], [1, 1, -1], [-1, -1, 1]]))
    overlap = top_overlap(np.stack([scores, np.exp(3 * scores), -scores]), 25)
    np.testing.assert_array_equal(overlap, [[25, 25, 0], [25, 25, 0], [0, 0, 25]])


def test_a_constant_ranking_agrees_with_none() -> None:
    table = pairwise_agreement(["flat", "other"], np.stack([np.zeros(20), np.arange(20.0)]), "layer")
    for name in ("overlap", "tau", "tau_low", "tau_high"):
        assert np.isnan(table[name]).all()


@pytest.mark.parametrize(("count", "top"), [(500, 50), (300, 50), (16, 8), (5, 2)])
def test_chance_is_hypergeometric(count: int, top: int) -> None:
    mean, p95 = chance_overlap(count, top)
    reference = stats.hypergeom(count, top, top)
    assert (mean, p95) == (pytest.approx(reference.mean()), reference.ppf(0.95))


def test_unrelated_rankings_overlap_by_chance() -> None:
    rng = np.random.default_rng(2)
    overlaps = top_overlap(rng.normal(size=(200, 100)), 20)[np.triu_indices(200, 1)]
    mean, p95 = chance_overlap(100, 20)
    assert overlaps.mean() == pytest.approx(mean, abs=0.1)
    assert np.mean(overlaps <= p95) >= 0.95 > np.mean(overlaps <= p95 - 1)


@pytest.mark.parametrize("correlation", [0.0, 0.5])
def test_the_interval_holds_the_true_tau_in_95_of_100_samples(correlation: float) -> None:
    rng = np.random.default_rng(3)
    true = 2 / math.pi * math.asin(correlation)  # of a normal pair
    held = []
    for _ in range(400):
        a, other = rng.normal(size=(2, 60))
        b = correlation * a + math.sqrt(1 - correlation**2) * other
        low, high = tau_interval(kendall_tau(np.stack([a, b]))[0, 1], 60)
        held.append(bool(low <= true <= high))
    assert 0.92 <= np.mean(held) <= 0.98


def test_the_interval_ends_at_full_agreement_and_needs_five_images() -> None:
    low, high = tau_interval(np.array([1.0, -1.0, 0.0]), 50)
    assert high[0] == pytest.approx(1) and low[1] == pytest.approx(-1)
    assert low[2] == pytest.approx(-high[2])
    assert np.isnan(tau_interval(np.array([0.5]), 4)).all()


def test_a_top_is_50_or_half_of_few_images() -> None:
    assert [top_count(count) for count in (5000, 100, 60, 1)] == [TOP, 50, 30, 0]


def test_every_two_layers_of_both_splits_have_a_row() -> None:
    rng = np.random.default_rng(4)
    scores = {
        split: {name: rng.normal(size=count) for name in ("a", "b", "c")}
        for split, count in (("external", 40), ("candidate", 60), ("shared", 60))
    }
    table = layer_agreement(scores)
    assert set(table) == set(LAYERMEM_AGREEMENT)
    expected = [(split, *pair) for split in ("candidate", "external") for pair in combinations("abc", 2)]
    assert list(zip(*(table[name].tolist() for name in [*LAYERMEM_AGREEMENT][:3]), strict=True)) == expected
    for row, (split, a, b) in enumerate(expected):
        x, y = scores[split][a], scores[split][b]
        assert table["n"][row] == len(x) and table["top"][row] == len(x) // 2
        assert table["tau"][row] == pytest.approx(tau_by_loops(x, y))
        assert table["overlap"][row] == overlap_by_loops(x, y, len(x) // 2)
        assert table["tau_low"][row] < table["tau"][row] < table["tau_high"][row]
