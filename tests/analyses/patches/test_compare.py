"""Differences of origin statistics: nothing between alike sets, everything between unlike ones."""

import numpy as np
import pytest

from memlight.analyses.patches import compare
from memlight.analyses.patches.compare import equal_numbers, origin_differences
from memlight.metrics.origins import STATISTICS, Origins
from memlight.stats import Claim, claims


def origins(images: int, sources: int, seed: int) -> Origins:
    rng = np.random.default_rng(seed)
    return Origins.of(rng.integers(0, sources * 4, size=images * 4), 2, 1000, rng.random(images * 4))


def test_sets_that_use_sources_alike_do_not_differ() -> None:
    found = origin_differences(origins(60, 300, 0), origins(60, 300, 1))
    defined = np.isfinite(found["low"])
    assert defined.sum() >= len(STATISTICS) - 2
    inside = (found["low"] <= 0) & (found["high"] >= 0)
    assert inside[defined].mean() >= 0.8


def test_a_set_that_uses_few_sources_differs() -> None:
    one, other = origins(60, 8, 0), origins(60, 300, 1)
    found = origin_differences(one, other)
    rows = found["statistic"].tolist()
    for name, sign in (("entropy_bits", -1), ("collision", 1), ("unique_sources", -1), ("top_contributor_share", 1)):
        row = rows.index(name)
        assert found["over"][row] == one.statistics()[name] - other.statistics()[name]
        assert min(sign * found["low"][row], sign * found["high"][row]) > 0


def test_of_sets_that_are_alike_a_statistic_is_named_in_5_of_100_deals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every deal of the images is taken for the true one; each statistic by itself is named more often."""
    made = []

    def kept(observed: np.ndarray, null: np.ndarray) -> list[Claim]:
        made.append(np.concatenate([observed[None], null]))
        return claims(observed, null)

    monkeypatch.setattr(compare, "claims", kept)
    found = origin_differences(origins(30, 100, 0), origins(30, 100, 1))
    assert np.isfinite(found["p_adjusted"]).sum() >= 6
    (statistics,) = made
    named, alone = [], []
    for row in range(len(statistics)):
        tested = claims(statistics[row], np.delete(statistics, row, axis=0))
        named.append(np.nanmin([claim.p_adjusted for claim in tested]) <= 0.05)
        alone.append(any(claim.low > 0 or claim.high < 0 for claim in tested))
    assert 0.02 < np.mean(named) <= 0.05 < np.mean(alone)


def test_equal_numbers_keeps_images_whole() -> None:
    many, few = equal_numbers([origins(50, 300, 0), origins(20, 300, 1)])
    assert len(many) == len(few) == 20
    assert many.sources_IP[[0, -1]].tolist() == origins(50, 300, 0).sources_IP[[0, -1]].tolist()
    with pytest.raises(ValueError, match="50 and 20 images"):
        origin_differences(origins(50, 300, 0), few)
