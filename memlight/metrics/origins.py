"""Where the patches of images come from: how often each source image is used, beside what chance would give.

A source is the image that holds the nearest training patch of a query patch. Everything here is of the nearest patch
alone, and of query images that lie in rows of ``grid ** 2`` patches, as a patch store keeps them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from memlight.stats import bootstrap_means
from memlight.storage.tables import Table

Counts = NDArray[np.int64]
Numbers = NDArray[np.float64]

DRAWS = 200
"""Draws of uniform sources, for the null."""

TOP_SHARE = 0.01
"""Of the sources that occur: whose patches make up ``top_1_percent_share``."""

RAREFACTION_POINTS = 24

STATISTICS = (
    *("entropy_bits", "effective_sources", "collision", "collision_sources", "unique_sources", "gini"),
    *("top_1_percent_share", "same_position", "top_contributor_share", "sources_per_image"),
    *("mean_distance", "median_distance"),
)
"""The rows of the table, in order."""


@dataclass(frozen=True)
class OriginStatistics:
    """What `origin_statistics` found.

    Attributes:
        table: a row per statistic, with columns statistic, value, low, high (95 % over query images, of means over
            images), null, null_low, null_high (mean and central 95 % with uniform sources), maximum (that can be
            reached); NaN where there is none.
        images: a row per query image: image, mean_distance, median_distance, sources, top_source, top_share, entropy,
            same_position.
        origins: a row per source that occurs, from the most used: source, patches, images (that use it).
        rarefaction: patches, sources (expected of so many patches), null.
    """

    table: Table
    images: Table
    origins: Table
    rarefaction: Table


@dataclass(frozen=True)
class Origins:
    """Where each patch of each query image comes from.

    Attributes:
        sources_IP: ``(images, patches)`` int64, the image of the nearest patch.
        same_IP: 1 where it lies at the same place of its image, else 0.
        far_IP: its distance; NaN where distances are not known.
        num_sources: images of the index.
    """

    sources_IP: Counts
    same_IP: Numbers
    far_IP: Numbers
    num_sources: int

    @classmethod
    def of(cls, indices: ArrayLike, grid: int, num_sources: int, distances: ArrayLike | None = None) -> "Origins":
        """From rows of the index; see `origin_statistics`."""
        patches = grid**2
        rows = _first_column(indices).astype(np.int64)
        if len(rows) == 0 or len(rows) % patches:
            raise ValueError(f"{len(rows)} patches are not whole images of {patches}")
        if rows.min() < 0 or rows.max() >= num_sources * patches:
            raise ValueError(f"rows {rows.min()} to {rows.max()} are not in {num_sources} images of {patches} patches")
        far = np.full(len(rows), np.nan) if distances is None else _first_column(distances).astype(np.float64)
        sources_IP, places_IP = np.divmod(rows.reshape(-1, patches), patches)
        same_IP = (places_IP == np.arange(patches)).astype(np.float64)
        return cls(sources_IP, same_IP, far.reshape(-1, patches), num_sources)

    def __len__(self) -> int:
        return len(self.sources_IP)

    def take(self, images: ArrayLike) -> "Origins":
        """Of some of the query images."""
        chosen = np.asarray(images)
        return Origins(self.sources_IP[chosen], self.same_IP[chosen], self.far_IP[chosen], self.num_sources)

    def counts(self) -> Counts:
        """How many patches come from each source."""
        return np.bincount(self.sources_IP.ravel(), minlength=self.num_sources)

    def statistics(self) -> dict[str, float]:
        """Values of ``STATISTICS``."""
        _, lengths = _runs(self.sources_IP)
        return {
            **histogram_statistics(np.unique(self.sources_IP, return_counts=True)[1]),
            "same_position": float(self.same_IP.mean()),
            "top_contributor_share": float((lengths.max(1) / lengths.shape[1]).mean()),
            "sources_per_image": float((lengths > 0).sum(1).mean()),
            "mean_distance": float(self.far_IP.mean()),
            "median_distance": float(np.median(self.far_IP)),
        }

    def by_image(self) -> Table:
        """Statistics of every query image; see `OriginStatistics`."""
        ordered, lengths = _runs(self.sources_IP)
        top = lengths.argmax(1)
        share = lengths / lengths.shape[1]
        bits = share * np.log2(np.where(lengths > 0, share, 1.0))
        return {
            "image": np.arange(len(self)),
            "mean_distance": self.far_IP.mean(1),
            "median_distance": np.median(self.far_IP, axis=1),
            "sources": (lengths > 0).sum(1),
            "top_source": ordered[np.arange(len(self)), top],
            "top_share": share.max(1),
            "entropy": np.abs(bits.sum(1)),
            "same_position": self.same_IP.mean(1),
        }

    def by_source(self) -> Table:
        """The sources that occur, from the most used; see `OriginStatistics`."""
        ordered, lengths = _runs(self.sources_IP)
        counts = self.counts()
        users = np.bincount(ordered[lengths > 0], minlength=len(counts))
        used = np.flatnonzero(counts)
        order = used[np.argsort(-counts[used], kind="stable")]
        return {"source": order, "patches": counts[order], "images": users[order]}


def origin_statistics(
    indices: ArrayLike, grid: int, num_sources: int, distances: ArrayLike | None = None, *, seed: int = 0
) -> OriginStatistics:
    """All statistics of where patches come from.

    * ``entropy_bits``: ``-sum p log2 p`` of the origin histogram; higher is more diverse. Its maximum is the log2 of
      the number of sources or of patches, whichever is lower: with few patches it says little about many sources.
    * ``effective_sources``: ``2 ** entropy``.
    * ``collision``: the chance that two patches have the same source, ``sum h (h - 1) / (n (n - 1))``, unbiased
      however few the patches are (Simpson 1949); ``collision_sources`` is its inverse, infinite without collisions.
    * ``unique_sources``: how many occur. ``gini`` and ``top_1_percent_share`` are of those that occur: 0 where all are
      used alike; the share of patches that come from the most used hundredth of them (one source at least).
    * ``same_position``: share of patches whose nearest lies at the same place of its image; by chance
      ``1 / grid ** 2``.
    * ``top_contributor_share``: largest share of an image's patches with one source, mean over images;
      ``sources_per_image`` is a mean over images too.
    * ``mean_distance`` over patches (and so over images); ``median_distance`` over patches.

    Args:
        indices: rows of the index, ``(Q,)`` or ``(Q, k)`` of which the first column counts; Q is a multiple of
            ``grid ** 2``.
        grid: patches on a side, of queries and index alike.
        num_sources: images of the index.
        distances: of the same shape.
        seed: of the null's draws.

    Raises:
        ValueError: the patches are not those of whole images, or a row is not in the index.
    """
    return statistics_of(Origins.of(indices, grid, num_sources, distances), seed=seed)


def statistics_of(origins: Origins, *, seed: int = 0) -> OriginStatistics:
    """All statistics of origins; see `origin_statistics`."""
    value, images = origins.statistics(), origins.by_image()
    images_drawn, patches = origins.sources_IP.shape
    null = _null(images_drawn, patches, origins.num_sources, seed)
    means = np.stack([images[name] for name in _OF_IMAGES.values()]).astype(np.float64)
    ends = dict(zip(_OF_IMAGES, zip(*bootstrap_means(means), strict=True), strict=True))
    most = min(origins.num_sources, origins.sources_IP.size)
    maximum = {
        "entropy_bits": np.log2(most),
        "effective_sources": most,
        "unique_sources": most,
        "sources_per_image": min(patches, origins.num_sources),
    }
    missing = (np.nan, np.nan, np.nan)
    table = {
        "statistic": np.array(STATISTICS),
        "value": np.array([value[name] for name in STATISTICS]),
        "low": np.array([ends.get(name, missing)[0] for name in STATISTICS]),
        "high": np.array([ends.get(name, missing)[1] for name in STATISTICS]),
        "null": np.array([null.get(name, missing)[0] for name in STATISTICS]),
        "null_low": np.array([null.get(name, missing)[1] for name in STATISTICS]),
        "null_high": np.array([null.get(name, missing)[2] for name in STATISTICS]),
        "maximum": np.array([float(maximum.get(name, np.nan)) for name in STATISTICS]),
    }
    return OriginStatistics(table, images, origins.by_source(), rarefaction(origins.counts()))


_OF_IMAGES = {
    "same_position": "same_position",
    "top_contributor_share": "top_share",
    "sources_per_image": "sources",
    "mean_distance": "mean_distance",
}
"""Statistic -> the column of the images' table whose mean it is."""


def histogram_statistics(counts_N: Counts) -> dict[str, float]:
    """What the origin histogram alone says; see `origin_statistics`.

    Args:
        counts_N: how many patches come from each source; zeros count for nothing.
    """
    used = np.sort(counts_N[counts_N > 0]).astype(np.float64)
    n = used.sum()
    share = used / n
    entropy = max(0.0, float(-(share * np.log2(share)).sum()))
    collision = float((used * (used - 1)).sum() / (n * (n - 1))) if n > 1 else float("nan")
    ranks = np.arange(1, len(used) + 1)
    top = int(np.ceil(TOP_SHARE * len(used)))
    return {
        "entropy_bits": entropy,
        "effective_sources": 2**entropy,
        "collision": collision,
        "collision_sources": 1 / collision if collision > 0 else float("inf") if collision == 0 else float("nan"),
        "unique_sources": float(len(used)),
        "gini": float((2 * ranks - len(used) - 1) @ used / (len(used) * n)),
        "top_1_percent_share": float(used[-top:].sum() / n),
    }


def rarefaction(counts_N: Counts) -> Table:
    """How many sources so many of the patches would have: expected over random choices of them (Hurlbert 1971).

    Args:
        counts_N: how many patches come from each source.

    Returns:
        Columns patches, sources, null (the same with uniform sources).
    """
    from scipy.special import gammaln

    used, times = np.unique(counts_N[counts_N > 0], return_counts=True)
    n = int((used * times).sum())
    taken = np.unique(np.geomspace(1, n, RAREFACTION_POINTS).round().astype(np.int64))
    left = n - used[None, :] - taken[:, None]
    possible = left >= 0
    log_missed = gammaln(n - used + 1)[None, :] - gammaln(n + 1) + gammaln(n - taken + 1)[:, None]
    log_missed = log_missed - gammaln(np.where(possible, left, 0) + 1)
    missed = np.where(possible, np.exp(np.minimum(log_missed, 0.0)), 0.0)
    chance = (
        -len(counts_N) * np.expm1(taken * np.log1p(-1 / len(counts_N))) if len(counts_N) > 1 else np.ones(len(taken))
    )
    return {"patches": taken, "sources": ((1 - missed) * times).sum(1), "null": chance}


def _first_column(values: ArrayLike) -> Numbers | Counts:
    array = np.asarray(values)
    return array[:, 0] if array.ndim == 2 else array


def _runs(sources_IP: Counts) -> tuple[Counts, Counts]:
    """Every image's sources in order, and at the first of equal ones how many they are, 0 at the others."""
    ordered = np.sort(sources_IP, axis=1)
    begins = np.ones(ordered.shape, dtype=bool)
    begins[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    begun = np.flatnonzero(begins)
    lengths = np.zeros(ordered.size, dtype=np.int64)
    lengths[begun] = np.diff(np.append(begun, ordered.size))
    return ordered, lengths.reshape(ordered.shape)


def _null(images: int, patches: int, num_sources: int, seed: int) -> Mapping[str, tuple[float, float, float]]:
    """Mean and central 95 % of each statistic where every patch has a uniform source and place."""
    rng = np.random.default_rng(seed)
    drawn: dict[str, list[float]] = {}
    for _ in range(DRAWS):
        sources_IP = rng.integers(num_sources, size=(images, patches))
        _, lengths = _runs(sources_IP)
        statistics = histogram_statistics(np.bincount(sources_IP.ravel()))
        statistics["same_position"] = rng.binomial(images * patches, 1 / patches) / (images * patches)
        statistics["top_contributor_share"] = float(lengths.max(1).mean()) / patches
        statistics["sources_per_image"] = float((lengths > 0).sum(1).mean())
        for name, value in statistics.items():
            drawn.setdefault(name, []).append(value)
    ends = {name: np.quantile(values, [0.025, 0.975], method="nearest").tolist() for name, values in drawn.items()}
    return {name: (float(np.mean(values)), *ends[name]) for name, values in drawn.items()}
