"""Several sets of images beside one another: origin statistics, distances, and what differs from held-out images."""

from collections.abc import Mapping

import numpy as np

from memlight.analyses.patches.chart import patch_distances, patch_origins, statistics_beside
from memlight.analyses.patches.columns import PATCHES_COMPARE, PATCHES_TABLE
from memlight.errors import UserError
from memlight.metrics.origins import STATISTICS, Origins, OriginStatistics, statistics_of
from memlight.patches.results import PatchResults
from memlight.runs.log import AnalysisLog
from memlight.stats import Claim, claims
from memlight.storage.tables import Table

DRAWS = 200
"""Relabellings of the pooled images."""


def compare_patches(
    searches: Mapping[str, PatchResults], held_out: str | None, num_sources: int, log: AnalysisLog
) -> None:
    """Write the table of all statistics and the charts; sets of images are cut to the size of the smallest.

    Args:
        searches: name of each set of images -> what its search found in the same index.
        held_out: the one of real images that no generator has learned from.
        num_sources: images of the index.
        log: where everything goes.
    """
    (grid,) = {int(results.about["grid"]) for results in searches.values()}
    metric = next(iter(searches.values())).metric
    sets = [Origins.of(r.indices, grid, num_sources, r.distances) for r in searches.values()]
    by_name = dict(zip(searches, equal_numbers(sets), strict=True))
    found = {name: statistics_of(origins) for name, origins in by_name.items()}
    rows = []
    for name, statistics in found.items():
        over = None
        if held_out is not None and name != held_out:
            over = origin_differences(by_name[name], by_name[held_out])
        rows.append(_rows(name, len(by_name[name]), statistics, over))
    table = {column: np.concatenate([row[column] for row in rows]) for column in PATCHES_COMPARE}
    log.table("table", table)
    log.figure("statistics", statistics_beside(table, held_out), "Every statistic, beside random sources.")
    distances = {name: origins.far_IP for name, origins in by_name.items()}
    log.figure("distances", patch_distances(distances, metric), "Distances to the nearest patch of the same index.")
    counts = {name: statistics.origins["patches"] for name, statistics in found.items()}
    curves = {name: statistics.rarefaction for name, statistics in found.items()}
    log.figure("origins", patch_origins(counts, curves), "How often single sources are used, and rarefaction.")


def require_same_search(argument: str, run: str, one: PatchResults, other: PatchResults) -> None:
    """Refuse to compare searches in different indexes.

    Args:
        argument: that names the other search's run.
        run: the other search's run.
        one: what the search found that the others are compared with.
        other: what the other search found.

    Raises:
        UserError: index, metric or grid differ.
    """
    for name in ("metric", "grid", "index_patches", "index_sha256", "extraction"):
        if one.about.get(name) != other.about.get(name):
            what = f"another {name.replace('_', ' ')} ({other.about.get(name)}) than that of `run`"
            why = f"its search has {what} ({one.about.get(name)})"
            raise UserError(argument, run, why, "search both in the same index with the same `metric`")


def _rows(model: str, images: int, found: OriginStatistics, over: Table | None) -> Table:
    count = len(found.table["statistic"])
    missing = np.full(count, np.nan)
    claimed = {f"over_{name}": name for name in Claim._fields[1:]}
    columns = {"over_held_out": "over", **claimed}
    return {
        "model": np.full(count, model),
        "images": np.full(count, images),
        **{column: found.table[column] for column in PATCHES_TABLE},
        **{column: missing if over is None else over[name] for column, name in columns.items()},
    }


def equal_numbers(sets: list[Origins]) -> list[Origins]:
    """Evenly spaced images of each, as many as the smallest has: what depends on their number can then be compared."""
    count = min(map(len, sets))
    return [one.take(np.linspace(0, len(one) - 1, count).round().astype(int)) for one in sets]


def origin_differences(one: Origins, other: Origins, *, seed: int = 0) -> Table:
    """Each statistic of one set of images minus that of another; all statistics are tested together.

    Under the hypothesis that both use the sources alike, images can be exchanged between them: all images are pooled
    and dealt out anew, and the spread of the differences over those deals gives p-values, intervals and a band
    (`memlight.stats.claims`). The patches of an image stay together, since they depend on one another.

    Args:
        one: origins of a set of images.
        other: of as many.
        seed: of the deals.

    Returns:
        Columns statistic and over, then those of `memlight.stats.Claim`.

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
    found = claims(np.array(observed), null)
    fields = {name: np.array([getattr(claim, name) for claim in found]) for name in Claim._fields[1:]}
    return {"statistic": np.array(STATISTICS), "over": np.array(observed), **fields}
