"""Whether one set of images uses sources otherwise than another: differences of all origin statistics."""

import numpy as np

from memlight.metrics.origins import STATISTICS, Origins
from memlight.stats import permutation_interval
from memlight.storage.tables import Table

DRAWS = 200
"""Relabellings of the pooled images."""


def equal_numbers(sets: list[Origins]) -> list[Origins]:
    """Evenly spaced images of each, as many as the smallest has: what depends on their number can then be compared."""
    count = min(map(len, sets))
    return [one.take(np.linspace(0, len(one) - 1, count).round().astype(int)) for one in sets]


def origin_differences(one: Origins, other: Origins, *, seed: int = 0) -> Table:
    """Each statistic of one set of images minus that of another, with an interval.

    Under the hypothesis that both use the sources alike, images can be exchanged between them: all images are pooled
    and dealt out anew, and the spread of the differences over those deals gives a 95 % interval, which leaves 0 out
    where the test rejects. The patches of an image stay together, since they depend on one another.

    Args:
        one: origins of a set of images.
        other: of as many.
        seed: of the deals.

    Returns:
        Columns statistic, over, low, high.

    Raises:
        ValueError: the sets differ in size.
    """
    if len(one) != len(other):
        raise ValueError(f"{len(one)} and {len(other)} images; see equal_numbers")
    pooled = Origins(
        np.concatenate([one.sources_IP, other.sources_IP]),
        np.concatenate([one.same_IP, other.same_IP]),
        np.concatenate([one.far_IP, other.far_IP]),
        one.num_sources,
    )
    rng = np.random.default_rng(seed)

    def difference(order: np.ndarray[tuple[int], np.dtype[np.int64]]) -> list[float]:
        first, second = (pooled.take(half).statistics() for half in (order[: len(one)], order[len(one) :]))
        return [first[name] - second[name] if np.isfinite(second[name]) else np.nan for name in STATISTICS]

    observed = difference(np.arange(len(pooled)))
    null = np.array([difference(rng.permutation(len(pooled))) for _ in range(DRAWS)])
    intervals = [
        permutation_interval(value, drawn, 0.0) if np.isfinite(value) and np.isfinite(drawn).all() else None
        for value, drawn in zip(observed, null.T, strict=True)
    ]
    return {
        "statistic": np.array(STATISTICS),
        "over": np.array(observed),
        "low": np.array([i.low if i else np.nan for i in intervals]),
        "high": np.array([i.high if i else np.nan for i in intervals]),
    }
