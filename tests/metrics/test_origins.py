"""Origin statistics against plain loops, their nulls, and cases whose answer is known."""

import math
from collections import Counter
from itertools import combinations

import numpy as np
import pytest

from memlight.metrics.origins import OriginStatistics, histogram_statistics, origin_statistics, rarefaction


def value(found: OriginStatistics, name: str, column: str = "value") -> float:
    return float(found.table[column][found.table["statistic"].tolist().index(name)])


@pytest.fixture(scope="module")
def some() -> tuple[np.ndarray, np.ndarray]:
    """30 images of 2x2 patches among 9 sources, of which few are used much."""
    rng = np.random.default_rng(0)
    sources = rng.integers(0, 9, size=120) * (rng.random(120) < 0.6)
    return sources * 4 + rng.integers(0, 4, size=120), rng.random(120)


def test_every_statistic_is_that_of_plain_loops(some: tuple[np.ndarray, np.ndarray]) -> None:
    indices, distances = some
    found = origin_statistics(indices, 2, 9, distances)
    sources = [int(i) // 4 for i in indices]
    counts = Counter(sources)
    n = len(sources)
    entropy = -sum(h / n * math.log2(h / n) for h in counts.values())
    assert value(found, "entropy_bits") == pytest.approx(entropy)
    assert value(found, "entropy_bits", "maximum") == pytest.approx(math.log2(9))
    assert value(found, "effective_sources") == pytest.approx(2**entropy)
    pairs = list(combinations(sources, 2))
    collision = sum(a == b for a, b in pairs) / len(pairs)
    assert value(found, "collision") == pytest.approx(collision)
    assert value(found, "collision_sources") == pytest.approx(1 / collision)
    assert value(found, "unique_sources") == len(counts)
    apart = sum(abs(a - b) for a in counts.values() for b in counts.values())
    assert value(found, "gini") == pytest.approx(apart / (2 * len(counts) ** 2 * (n / len(counts))))
    assert value(found, "top_1_percent_share") == max(counts.values()) / n
    assert value(found, "same_position") == sum(int(i) % 4 == p % 4 for p, i in enumerate(indices)) / n
    by_image = [Counter(sources[start : start + 4]) for start in range(0, n, 4)]
    assert value(found, "top_contributor_share") == pytest.approx(sum(max(c.values()) for c in by_image) / n)
    assert value(found, "sources_per_image") == pytest.approx(sum(map(len, by_image)) / 30)
    assert value(found, "mean_distance") == pytest.approx(distances.mean())
    assert value(found, "median_distance") == pytest.approx(np.median(distances))
    for row, of_image in enumerate(by_image):
        top = min(source for source, count in of_image.items() if count == max(of_image.values()))
        assert found.images["top_source"][row] == top
        assert found.images["top_share"][row] == of_image[top] / 4
        assert found.images["sources"][row] == len(of_image)
        image_entropy = -sum(h / 4 * math.log2(h / 4) for h in of_image.values())
        assert found.images["entropy"][row] == pytest.approx(image_entropy)
    ranked = sorted(counts, key=lambda source: (-counts[source], source))
    assert found.origins["source"].tolist() == ranked
    assert found.origins["patches"].tolist() == [counts[source] for source in ranked]
    assert found.origins["images"].tolist() == [sum(source in c for c in by_image) for source in ranked]


def test_rarefaction_is_the_mean_over_all_choices() -> None:
    counts = np.array([3, 0, 1, 2])
    patches = [0, 0, 0, 2, 3, 3]
    curve = rarefaction(counts)
    assert curve["patches"].tolist() == [1, 2, 3, 4, 5, 6]
    for taken, sources in zip(curve["patches"], curve["sources"], strict=True):
        choices = list(combinations(patches, int(taken)))
        assert sources == pytest.approx(sum(len(set(choice)) for choice in choices) / len(choices))
    np.testing.assert_allclose(curve["null"], 4 * (1 - 0.75 ** curve["patches"]))


def test_uniform_sources_lie_within_the_null() -> None:
    rng = np.random.default_rng(3)
    found = origin_statistics(rng.integers(0, 500 * 16, size=64 * 16), 4, 500)
    for name in ("entropy_bits", "collision", "unique_sources", "gini", "same_position", "sources_per_image"):
        assert value(found, name, "null_low") <= value(found, name) <= value(found, name, "null_high")
    assert value(found, "collision", "null") == pytest.approx(1 / 500, rel=0.02)
    assert value(found, "unique_sources", "null") == pytest.approx(500 * (1 - (1 - 1 / 500) ** 1024), rel=0.01)
    assert np.isnan(value(found, "mean_distance"))


def test_copies_have_one_source_each() -> None:
    found = origin_statistics(np.arange(10 * 4)[:, None], 2, 10, np.zeros((40, 1)))
    assert value(found, "top_contributor_share") == value(found, "same_position") == 1
    assert value(found, "sources_per_image") == 1
    assert value(found, "gini") == 0
    assert value(found, "entropy_bits") == value(found, "entropy_bits", "maximum") - 0 == pytest.approx(math.log2(10))


def test_one_source_of_everything() -> None:
    found = histogram_statistics(np.array([0, 40]))
    assert found["entropy_bits"] == 0 and found["collision"] == found["collision_sources"] == 1
    assert histogram_statistics(np.ones(5, dtype=np.int64))["collision_sources"] == math.inf


@pytest.mark.parametrize(("indices", "says"), [([0, 1, 2], "whole images"), ([0, 1, 2, 40], "not in 10 images")])
def test_patches_that_do_not_fit(indices: list[int], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        origin_statistics(indices, 2, 10)
