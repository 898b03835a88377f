"""ClassMem of all layers as the tables that are written, drawn and reported."""

from collections.abc import Mapping

import numpy as np

from memlight.analyses.unitmem.tables import unit_columns
from memlight.metrics.classmem import ClassMemResult
from memlight.stats import as_array, mean_of
from memlight.storage.tables import Table


def classmem_table(results: Mapping[str, ClassMemResult]) -> Table:
    """Every unit of every layer: the columns of ``classmem/table.csv``."""
    table = unit_columns({layer: result.classmem.numel() for layer, result in results.items()})
    for name in ("classmem", "max_class", "mu_max", "mu_rest"):
        table[name] = np.concatenate([as_array(getattr(result, name)) for result in results.values()])
    return table


def classmem_layers(
    results: Mapping[str, ClassMemResult], held_out: Mapping[str, ClassMemResult] | None = None
) -> Table:
    """ClassMem by layer beside shuffled labels and unseen images: the columns of ``classmem/layers.csv``.

    Dead units are counted and left out of every mean. ``null_mean`` is the mean over units and shuffles of what a unit
    scores when the labels say nothing, and ``null_p95`` the mean over units of the 95th percentile of its shuffles.

    Args:
        results: layer -> result, with its null and UnitMem where they were measured.
        held_out: the same units on images that no member was trained on, which makes ClassMem class selectivity; NaN
            when missing.
    """
    rows = [_layer_row(result, held_out[layer] if held_out else None) for layer, result in results.items()]
    table: Table = {"layer": np.array(list(results)), "depth": np.arange(len(rows))}
    table.update({name: np.array([row[name] for row in rows]) for name in rows[0]})
    return table


def _layer_row(result: ClassMemResult, held_out: ClassMemResult | None) -> dict[str, float]:
    alive = ~result.dead
    scores, null_PU = as_array(result.classmem[alive]), as_array(result.null[:, alive])
    unitmem = None if result.unitmem is None else result.unitmem.unitmem[~result.unitmem.dead]
    return {
        "units": len(alive),
        "dead": int(result.dead.sum()),
        "mean": mean_of(scores),
        "p95": float(np.quantile(scores, 0.95)) if scores.size else np.nan,
        "max": float(scores.max()) if scores.size else np.nan,
        "null_mean": mean_of(null_PU),
        "null_p95": float(np.quantile(null_PU, 0.95, axis=0).mean()) if null_PU.size else np.nan,
        "held_out_mean": mean_of(as_array(held_out.classmem[~held_out.dead])) if held_out is not None else np.nan,
        "unitmem_mean": mean_of(as_array(unitmem)) if unitmem is not None else np.nan,
    }
