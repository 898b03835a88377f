"""Results of all layers as the tables that are written, drawn and reported."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memlight.analyses.unitmem.columns import UNITMEM_NULL
from memlight.analyses.unitmem.contrast import UnitContrast
from memlight.analyses.unitmem.excess import layer_excess, layer_null, layer_null_draw
from memlight.metrics.unitmem import UnitMemResult
from memlight.stats import as_array, mean_of, welch
from memlight.storage.tables import Table


def unit_columns(units: Mapping[str, int]) -> Table:
    """Columns ``layer``, ``depth`` and ``unit``, a row for every unit.

    Args:
        units: layer -> number of its units, in execution order.
    """
    sizes = list(units.values())
    return {
        "layer": np.repeat(list(units), sizes),
        "depth": np.repeat(np.arange(len(sizes)), sizes),
        "unit": np.concatenate([np.arange(size) for size in sizes]),
    }


def unitmem_table(results: Mapping[str, UnitMemResult]) -> Table:
    """Every unit of every layer: the columns of ``unitmem/table.csv``, with the median form where it was asked for."""
    table = unit_columns({layer: result.unitmem.numel() for layer, result in results.items()})
    for name in ("unitmem", "mu_max", "mu_rest", "max_id", "dead", "unitmem_median", "mu_rest_median"):
        columns = [getattr(result, name) for result in results.values()]
        if columns[0] is not None:
            table[name] = np.concatenate([as_array(column) for column in columns])
    return table


def unitmem_top(results: Mapping[str, UnitMemResult]) -> Table:
    """The strongest images of every living unit: columns ``layer``, ``unit``, ``rank`` (from 0), ``id``, ``mu``."""
    parts: dict[str, list[NDArray[Any]]] = {name: [] for name in ("layer", "unit", "rank", "id", "mu")}
    for layer, result in results.items():
        units = (~result.dead).nonzero().flatten().cpu().numpy()
        ids, mu = as_array(result.topk_ids)[:, units].T, as_array(result.topk_mu)[:, units].T
        parts["layer"].append(np.full(ids.size, layer))
        parts["unit"].append(np.repeat(units, ids.shape[1]))
        parts["rank"].append(np.tile(np.arange(ids.shape[1]), len(units)))
        parts["id"].append(ids.ravel())
        parts["mu"].append(mu.ravel())
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}


def excess_table(results: Mapping[str, UnitMemResult], held_out: Mapping[str, UnitMemResult] | None = None) -> Table:
    """Every unit beside its null: the columns of ``unitmem/excess.csv``; dead units have no null.

    Args:
        results: layer -> result, layers in execution order.
        held_out: the same units on images that no member was trained on; NaN when missing.
    """
    table = unit_columns({layer: result.unitmem.numel() for layer, result in results.items()})
    nulls = [layer_null(result) for result in results.values()]
    table["unitmem"] = np.concatenate([as_array(result.unitmem) for result in results.values()])
    table["null"], table["null_p95"] = (np.concatenate(values) for values in zip(*nulls, strict=True))
    table["excess"] = table["unitmem"] - table["null"]
    unseen = [as_array(held_out[layer].unitmem) for layer in results] if held_out else []
    table["held_out"] = np.concatenate(unseen) if unseen else np.full(len(table["unit"]), np.nan)
    drawn = [layer_null_draw(result, depth) for depth, result in enumerate(results.values())]
    table["null_draw"] = np.concatenate(drawn)
    return table


def null_table(results: Mapping[str, UnitMemResult], held_out: Mapping[str, UnitMemResult] | None = None) -> Table:
    """Mean excess over the null of each layer's living units: the columns of ``unitmem/null.csv``.

    ``held_out_excess`` is that of the same units on held-out images over the null of those: no encoder was trained
    on them, so it shows what the null's misfit alone makes of the layer. ``above_null_p95`` is the share of units
    above the 95th percentile of their own null, .05 where images are exchangeable.

    Args:
        results: layer -> result, layers in execution order.
        held_out: the same units on images that no member was trained on; NaN when missing.
    """
    none = (np.nan, np.nan, np.nan)
    rows = []
    for layer, result in results.items():
        alive = as_array(~result.dead)
        scores, (null, p95) = as_array(result.unitmem)[alive], (values[alive] for values in layer_null(result))
        above = (scores > p95)[np.isfinite(p95)]
        unseen = layer_excess(held_out[layer]) if held_out else none
        rows.append((mean_of(scores), mean_of(null), *layer_excess(result), *unseen, mean_of(above)))
    columns = zip([*UNITMEM_NULL][1:], np.array(rows).T, strict=True)
    return {"layer": np.array(list(results)), **dict(columns)}


def unitmem_layers(
    results: Mapping[str, UnitMemResult],
    held_out: Mapping[str, UnitMemResult] | None = None,
    pair: Mapping[str, UnitContrast] | None = None,
) -> Table:
    """UnitMem by layer beside what noise and unseen images score: the columns of ``unitmem/layers.csv``.

    Dead units are counted and left out of every mean. ``null_mean`` and ``null_p95`` average over units what
    exchangeable images would score. ``top_mean`` and ``bottom_mean`` are over the top and bottom 10 % of the units
    (at least one); ``t`` and ``p`` are Welch's test between these two groups, as Jafari prints it. It selects on the
    quantity it tests, so noise alone makes p tiny.

    Args:
        results: layer -> result.
        held_out: the same units on images that no member was trained on; NaN when missing. Scores grow with the
            number of images, so give it as many.
        pair: layer -> contrast of the pair; its columns are left out when missing.
    """
    rows = [_layer_row(result, held_out[layer] if held_out else None) for layer, result in results.items()]
    table: Table = {"layer": np.array(list(results)), "depth": np.arange(len(rows))}
    table.update({name: np.array([row[name] for row in rows]) for name in rows[0]})
    if pair is not None:
        for name, field in (("unit_contrast", "contrast"), ("own_max", "own_max_share")):
            intervals = [getattr(pair[layer], field) for layer in results]
            table["own_max_share" if name == "own_max" else name] = np.array([i.value for i in intervals])
            table[f"{name}_low"] = np.array([i.low for i in intervals])
            table[f"{name}_high"] = np.array([i.high for i in intervals])
    return table


def _layer_row(result: UnitMemResult, held_out: UnitMemResult | None) -> dict[str, float]:
    alive = ~result.dead
    scores = np.sort(as_array(result.unitmem[alive]))
    bottom, top = tenths(scores)
    null_mean, null_p95 = (values[as_array(alive)] for values in layer_null(result))
    test = welch(top, bottom)
    return {
        "units": len(alive),
        "dead": int(result.dead.sum()),
        "mean": mean_of(scores),
        "p95": float(np.quantile(scores, 0.95)) if len(scores) else np.nan,
        "max": float(scores[-1]) if len(scores) else np.nan,
        "top_mean": mean_of(top),
        "bottom_mean": mean_of(bottom),
        "null_mean": mean_of(null_mean),
        "null_p95": mean_of(null_p95),
        "held_out_mean": mean_of(as_array(held_out.unitmem[~held_out.dead])) if held_out is not None else np.nan,
        "t": test.t,
        "p": test.p,
    }


def tenths(sorted_N: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The lowest and the highest tenth of ascending values: ``int(0.1 N)`` of them (Jafari), at least one."""
    tenth = max(1, int(0.1 * len(sorted_N)))
    return sorted_N[:tenth], sorted_N[len(sorted_N) - tenth :]
