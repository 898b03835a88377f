"""Who owns units, against loops, and where the answer is known."""

import numpy as np
import pytest

from memlight.analyses.images.tables import (
    concentration,
    concentration_null,
    drawn_counts,
    extreme_units,
    owned_units,
    units_by_images,
)


def test_the_extreme_units_are_of_the_living_ones_and_ties_keep_their_order() -> None:
    scores = np.array([0.5, 0.0, 0.9, 0.9, 0.1, 0.0])
    dead = np.array([False, True, False, False, False, False])
    assert extreme_units(scores, dead, share=0.4).tolist() == [2, 3]
    assert extreme_units(scores, dead, share=0.4, lowest=True).tolist() == [5, 4]
    assert extreme_units(scores, dead, share=1.0).tolist() == [2, 3, 0, 4, 5]
    assert extreme_units(scores, dead).tolist() == [2], "10 % of five units is one at least"
    assert extreme_units(scores, np.ones(6, dtype=bool)).tolist() == []


def test_concentration_equals_loops() -> None:
    rng = np.random.default_rng(0)
    ids = np.sort(rng.choice(1000, 230, replace=False))
    owners = rng.choice(ids[:50], 90)
    counts = owned_units(owners, ids)
    assert counts.tolist() == [sum(owner == id_ for owner in owners) for id_ in ids]
    ranked = sorted(counts.tolist(), reverse=True)
    expected = [sum(count > 0 for count in counts) / 230, sum(ranked[:2]) / 90, sum(ranked[:23]) / 90, ranked[0] / 90]
    np.testing.assert_allclose(concentration(counts[None]), [expected])
    share = units_by_images(counts[None])[0]
    np.testing.assert_allclose(share, [sum(ranked[:n]) / 90 for n in range(1, 231)])


def test_the_null_is_what_drawing_owners_gives() -> None:
    """An image stays without a unit with probability (1 - 1 / N) ** U."""
    null = concentration_null(80, 50, draws=2000, seed=3)
    assert null.shape == (2000, 4)
    assert null[:, 0].mean() == pytest.approx(1 - (1 - 1 / 50) ** 80, abs=0.004)
    assert (concentration_null(80, 50, draws=2000, seed=3) == null).all()
    assert (concentration_null(80, 50, draws=2000, seed=4) != null).any()
    assert len(np.unique(null[:, 2])) > 5 and (null[:100] != null[100:200]).any(), "blocks differ"
    assert (drawn_counts(80, 50, draws=7, seed=0).sum(1) == 80).all()


def test_one_owner_of_all_is_the_end_of_the_scale() -> None:
    assert concentration(np.array([[0, 40, 0, 0]])).tolist() == [[0.25, 1, 1, 1]]
