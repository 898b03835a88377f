"""Groups of images that an encoder sees as alike."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.cluster import KMeans
from sklearn.metrics import silhouette_score
from threadpoolctl import threadpool_limits

MOST_CLUSTERS = 8


class Clusters(NamedTuple):
    """A partition of images.

    Attributes:
        labels: ``(N,)`` cluster of each image, from 0, the largest first.
        numbers: ``(K,)`` numbers of clusters that were tried.
        silhouettes: ``(K,)`` mean silhouette of each; the highest was taken.
    """

    labels: NDArray[np.int64]
    numbers: NDArray[np.int64]
    silhouettes: NDArray[np.float64]


def cluster_images(features_ND: ArrayLike, *, seed: int = 0, most: int = MOST_CLUSTERS) -> Clusters:
    """Partition images by the directions of their features: k-means, k by the mean silhouette (Rousseeuw 1987).

    Features are scaled to length 1. One thread does all, so that sums are always added up in the same order.

    Args:
        features_ND: outputs of an encoder.
        seed: of the starting points, ten for each k.
        most: largest k tried; the smallest is 2. Fewer than 3 different images are one cluster.
    """
    features = np.asarray(features_ND, dtype=np.float64)
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    directions = np.divide(features, norms, out=np.zeros_like(features), where=norms > 0)
    different = len(np.unique(directions.round(9), axis=0))
    numbers = np.arange(2, min(most, different - 1) + 1)
    if not len(numbers):
        return Clusters(np.zeros(len(features), dtype=np.int64), numbers, np.empty(0))
    with threadpool_limits(1):
        partitions = [KMeans(int(k), n_init=10, random_state=seed).fit(directions).labels_ for k in numbers]
        silhouettes = np.array([silhouette_score(directions, labels) for labels in partitions])
    labels = partitions[int(silhouettes.argmax())]
    by_size = np.argsort(-np.bincount(labels), kind="stable")
    return Clusters(np.argsort(by_size)[labels].astype(np.int64), numbers, silhouettes)
