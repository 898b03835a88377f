"""Several sets of images beside one another: origin statistics, distances, and what differs from held-out images."""

from collections.abc import Mapping

import numpy as np

from memlight.analyses.patches.chart import patch_distances, patch_origins, statistics_beside
from memlight.analyses.patches.columns import PATCHES_COMPARE, PATCHES_TABLE
from memlight.analyses.patches.differences import equal_numbers, origin_differences
from memlight.errors import UserError
from memlight.metrics.origins import Origins, OriginStatistics, statistics_of
from memlight.patches.results import PatchResults
from memlight.runs.log import AnalysisLog
from memlight.storage.tables import Table


def compare_patches(
    searches: Mapping[str, PatchResults], held_out: str | None, num_sources: int, log: AnalysisLog
) -> Table:
    """Write the table of all statistics and the charts; sets of images are cut to the size of the smallest.

    Args:
        searches: name of each set of images -> what its search found in the same index.
        held_out: the one of real images that no generator has learned from.
        num_sources: images of the index.
        log: where everything goes.

    Returns:
        The table, columns ``PATCHES_COMPARE``.
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
    return table


def require_same_search(flag: str, run: str, one: PatchResults, other: PatchResults) -> None:
    """Refuse to compare searches in different indexes.

    Raises:
        UserError: index, metric or grid differ.
    """
    for name in ("metric", "grid", "index_patches", "index_sha256", "extraction"):
        if one.about.get(name) != other.about.get(name):
            raise UserError(
                f"{flag} {run}: its search has another {name.replace('_', ' ')} ({other.about.get(name)}) than that of "
                f"--run ({one.about.get(name)}); search both in the same index with the same --metric"
            )


def _rows(name: str, images: int, found: OriginStatistics, over: Table | None) -> Table:
    count = len(found.table["statistic"])
    missing = np.full(count, np.nan)
    difference = {"over": missing, "low": missing, "high": missing} if over is None else over
    return {
        "model": np.full(count, name),
        "images": np.full(count, images),
        **{column: found.table[column] for column in PATCHES_TABLE},
        "over_held_out": difference["over"],
        "over_low": difference["low"],
        "over_high": difference["high"],
    }
