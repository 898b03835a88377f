"""Clusters of images: as many as there are, by direction, the same every time."""

import numpy as np
import pytest

from memlight.analyses.images.clusters import cluster_images


def test_groups_in_different_directions_are_found_whatever_their_length() -> None:
    rng = np.random.default_rng(0)
    centres = np.eye(6)[[0, 2, 5]]
    group = np.repeat([0, 1, 2], (12, 30, 20))
    features = (centres[group] + 0.05 * rng.normal(size=(62, 6))) * rng.uniform(0.1, 50, size=(62, 1))
    found = cluster_images(features)
    assert found.numbers.tolist() == [2, 3, 4, 5, 6, 7, 8] and found.numbers[found.silhouettes.argmax()] == 3
    assert np.bincount(found.labels).tolist() == [30, 20, 12], "the largest first"
    assert (np.array([2, 0, 1])[group] == found.labels).all()
    again = cluster_images(features)
    assert (again.labels == found.labels).all() and (again.silhouettes == found.silhouettes).all()


@pytest.mark.parametrize(("features", "count"), [(np.ones((5, 3)), 0), (np.zeros((2, 3)), 0), (np.eye(3), 1)])
def test_few_or_equal_images_are_no_special_case(features: np.ndarray, count: int) -> None:
    found = cluster_images(features)
    assert len(found.numbers) == len(found.silhouettes) == count
    assert len(found.labels) == len(features) and found.labels.max() == count
