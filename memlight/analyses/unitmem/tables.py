"""Results of all layers as the tables that are written, drawn and reported."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from memlight.analyses.unitmem.columns import (
    UNITMEM_CURVE,
    UNITMEM_EXTREMES,
    UNITMEM_HIGHEST,
    UNITMEM_MEDIANS,
    UNITMEM_NULL,
    UNITMEM_RELIABILITY,
    UNITMEM_TESTS,
    UNITMEM_TOP,
)
from memlight.analyses.unitmem.contrast import Results, UnitContrast
from memlight.analyses.unitmem.excess import (
    ExcessOverOther,
    layer_excess,
    layer_null,
    layer_null_draw,
    share_above,
    tail_of,
)
from memlight.metrics.functional import BLOCK_ENTRIES, unitmem_from_extremes
from memlight.metrics.null import unitmem_null
from memlight.metrics.unitmem import UnitMemResult
from memlight.stats import Claim, as_array, mean_of, welch
from memlight.storage.schema import required
from memlight.storage.tables import Table, table_of

ALL = "all"
"""Stands for the layer in a row of all layers together."""

Scores = dict[str, NDArray[np.float64]]
"""Scores of every unit, ``(U,)`` over all layers: ``scored``, ``null``, ``held_out``; see `unit_scores`."""


def unitmem_tables(
    results: Results,
    held_out: Results | None = None,
    pair: Mapping[str, UnitContrast] | None = None,
    curve: Table | None = None,
    over_other: Mapping[str, ExcessOverOther] | None = None,
) -> dict[str, Table]:
    """Every table of a study by its name, in the order in which they are written.

    Args:
        results: layer -> result on the images that are scored.
        held_out: the same units on as many images that no member was trained on; None where there are none.
        pair: layer -> contrast of the pair; None without a partner.
        curve: columns ``UNITMEM_CURVE``; None where mu of every image was not kept.
        over_other: layer -> excess beside that on the other member's images; None without a partner.
    """
    table, excess = unitmem_table(results), excess_table(results, held_out)
    scores = unit_scores(results, excess, held_out)
    halves = [(layer, split_half(result)) for layer, result in results.items()]
    tables: dict[str, Table | None] = {
        "table": table,
        "layers": unitmem_layers(results, held_out, pair),
        "held_out": unitmem_table(held_out) if held_out is not None else None,
        "excess": excess,
        "null": null_table(results, held_out, over_other),
        "top": unitmem_top(results),
        "reliability": table_of(UNITMEM_RELIABILITY, halves),
        "curve": curve,
        "highest": highest_units(table, excess),
        "tests": extreme_tests(table["layer"], scores),
        "extremes": extreme_shares(table["layer"], scores),
        "medians": median_agreement(results, held_out) if "unitmem_median" in table else None,
    }
    return {name: one for name, one in tables.items() if one is not None}


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


def unitmem_table(results: Results) -> Table:
    """Every unit of every layer: the columns of ``unitmem/table.csv``.

    ``unitmem`` is the form against the mean, and the form against the median stands beside it where it was asked for.
    """
    table = unit_columns({layer: result.mu_max.numel() for layer, result in results.items()})
    attributes = {"unitmem": "unitmem_mean", "mu_rest": "mu_rest_mean"}
    for name in ("unitmem", "mu_max", "mu_rest", "max_id", "dead", "unitmem_median", "mu_rest_median"):
        columns = [getattr(result, attributes.get(name, name)) for result in results.values()]
        if columns[0] is not None:
            table[name] = np.concatenate([as_array(column) for column in columns])
    return table


def unitmem_top(results: Results) -> Table:
    """The strongest images of every living unit: columns ``layer``, ``unit``, ``rank`` (from 0), ``id``, ``mu``."""
    parts = []
    for layer, result in results.items():
        units = (~result.dead).nonzero().flatten().cpu().numpy()
        ids, mu = as_array(result.topk_ids)[:, units].T, as_array(result.topk_mu)[:, units].T
        rank = np.tile(np.arange(ids.shape[1]), len(units))
        columns = (np.full(ids.size, layer), np.repeat(units, ids.shape[1]), rank, ids.ravel(), mu.ravel())
        parts.append(dict(zip(UNITMEM_TOP, columns, strict=True)))
    return joined_tables(parts)


def joined_tables(parts: Sequence[Table]) -> Table:
    """The rows of several tables of the same columns, one after another."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def excess_table(results: Results, held_out: Results | None = None) -> Table:
    """Every unit beside its null: ``unitmem/excess.csv``; NaN for dead units, and without held-out images."""
    table = unit_columns({layer: result.mu_max.numel() for layer, result in results.items()})
    nulls = [layer_null(result) for result in results.values()]
    table["unitmem"] = np.concatenate([as_array(result.unitmem_mean) for result in results.values()])
    table["null"], table["null_p95"] = (np.concatenate(values) for values in zip(*nulls, strict=True))
    table["excess"] = table["unitmem"] - table["null"]
    unseen = [as_array(held_out[layer].unitmem_mean) for layer in results] if held_out else []
    table["held_out"] = np.concatenate(unseen) if unseen else np.full(len(table["unit"]), np.nan)
    drawn = [layer_null_draw(result, depth) for depth, result in enumerate(results.values())]
    table["null_draw"] = np.concatenate(drawn)
    trusted = [tail_of(result).calibrated & ~as_array(result.dead) for result in results.values()]
    table["p95_calibrated"] = np.concatenate(trusted)
    return table


def null_table(
    results: Results, held_out: Results | None = None, over_other: Mapping[str, ExcessOverOther] | None = None
) -> Table:
    """Mean excess over the null of each layer's living units: the columns of ``unitmem/null.csv``.

    ``held_out_excess`` is that of the same units on held-out images over the null of those: no encoder was trained
    on them, so it shows what the null's misfit alone makes of the layer; NaN without any. ``above_null_p95`` is the
    share of units above the 95th percentile of their own null, .05 to .09 where images are exchangeable and
    ``p95_calibrated`` holds (see `memlight.metrics.null.layer_tail`); ``held_out_above_null_p95`` is that of the same
    units on held-out images. Of a pair, ``other_excess`` is that on the images that only the other member was trained
    on, and ``over_other`` how far the excess lies above it, tested over all layers by relabelling; the columns are left
    out when missing.
    """
    none = (np.nan, np.nan, np.nan)
    rows = []
    for layer, result in results.items():
        alive = as_array(~result.dead)
        scores, null = as_array(result.unitmem_mean)[alive], layer_null(result)[0][alive]
        unseen = layer_excess(held_out[layer]) if held_out else none
        rows.append((layer, mean_of(scores), mean_of(null), *layer_excess(result), *unseen, share_above(result)))
    table = table_of(required(UNITMEM_NULL), rows)
    unseen_shares = [share_above(held_out[layer]) if held_out else np.nan for layer in results]
    table["held_out_above_null_p95"] = np.array(unseen_shares)
    tails = [tail_of(result) for result in results.values()]
    table["tail_shape"], table["p95_calibrated"] = (np.array(values) for values in zip(*tails, strict=True))
    if over_other is not None:
        found = [over_other[layer] for layer in results]
        table["other_excess"] = np.array([of_layer.other for of_layer in found])
        table |= claim_columns("over_other", [of_layer.over_other for of_layer in found])
    return table


def claim_columns(name: str, found: Sequence[Claim], short: str | None = None) -> Table:
    """A number of every layer with its interval, its band over all layers and its adjusted p-value.

    Args:
        name: of the number's column.
        found: of every layer.
        short: what the other columns' names begin with; the number's name if None.
    """
    columns = {field: np.array([getattr(claim, field) for claim in found]) for field in Claim._fields}
    return {name: columns.pop("value"), **{f"{short or name}_{field}": values for field, values in columns.items()}}


def unitmem_layers(
    results: Results,
    held_out: Results | None = None,
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
    table = layer_columns(list(results), rows)
    if pair is not None:
        table |= claim_columns("unit_contrast", [pair[layer].contrast for layer in results])
        table |= claim_columns("own_max_share", [pair[layer].own_max_share for layer in results], "own_max")
    return table


def layer_columns(layers: Sequence[str], rows: Sequence[Mapping[str, float]]) -> Table:
    """Columns ``layer`` and ``depth``, and behind them the numbers of every layer, in execution order."""
    numbers = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    return {"layer": np.array(layers), "depth": np.arange(len(rows)), **numbers}


def score_summary(dead_U: NDArray[np.bool_], scores: NDArray[np.float64]) -> dict[str, float]:
    """How many units a layer has and how many of them are dead; mean, 95th percentile and maximum of the others.

    Args:
        dead_U: which units never fired.
        scores: of the living ones, in any order; none give NaN.
    """
    p95, highest = (float(np.quantile(scores, 0.95)), float(scores.max())) if len(scores) else (np.nan, np.nan)
    return {"units": len(dead_U), "dead": int(dead_U.sum()), "mean": mean_of(scores), "p95": p95, "max": highest}


def _layer_row(result: UnitMemResult, held_out: UnitMemResult | None) -> dict[str, float]:
    dead = as_array(result.dead)
    scores = np.sort(as_array(result.unitmem_mean)[~dead])
    bottom, top = tenths(scores)
    null_mean, null_p95 = (mean_of(values[~dead]) for values in layer_null(result))
    test = welch(top, bottom)
    return {
        **score_summary(dead, scores),
        "top_mean": mean_of(top),
        "bottom_mean": mean_of(bottom),
        "null_mean": null_mean,
        "null_p95": null_p95,
        "held_out_mean": mean_of(as_array(held_out.unitmem_mean[~held_out.dead])) if held_out is not None else np.nan,
        **test._asdict(),
    }


def tenths(sorted_N: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The lowest and the highest tenth of ascending values: ``int(0.1 N)`` of them (Jafari), at least one."""
    tenth = max(1, int(0.1 * len(sorted_N)))
    return sorted_N[:tenth], sorted_N[len(sorted_N) - tenth :]


def split_half(result: UnitMemResult) -> float:
    """Rank correlation over living units between the scores from the first and from the second half of the views.

    Returns:
        Spearman's rho; NaN with one view, or when fewer than two units live or all score alike.
    """
    if result.halves is None:
        return float("nan")
    first, second = result.halves[:, ~result.dead].cpu().numpy()
    if len(first) < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    return float(stats.spearmanr(first, second).statistic)


Columns = Callable[[slice], Tensor]
"""Gives mu of some units on all images, ``(N, u)``, images in ascending order of id."""


def unitmem_curve(results: Results, sizes: Sequence[int], seed: int = 0, columns: Columns | None = None) -> Table:
    """Mean UnitMem of living units against the number of images, on nested random subsets.

    The score of pure noise grows with the number of images, so two scores compare only at equal numbers.

    Args:
        results: layer -> result.
        sizes: numbers of images, each at least 2; those beyond what there is are left out.
        seed: of the order in which images join.
        columns: mu of the units of all layers, one after the other, for a table that is larger than the memory; the
            results' own tables (``keep_table=True``) if None.

    Returns:
        Columns ``layer``, ``n`` and ``mean``.
    """
    rows: list[tuple[str, int, float]] = []
    first = 0
    for layer, result in results.items():
        own = columns_of(result.mu) if columns is None else columns
        start = 0 if columns is None else first
        rows += [(layer, *point) for point in _means(result, own, start, sizes, seed)]
        first += result.mu_max.numel()
    return table_of(UNITMEM_CURVE, rows)


def columns_of(mu_NU: Tensor | None) -> Columns:
    """A table in memory, by units."""
    if mu_NU is None:
        raise ValueError("the table of mu is needed: measure with keep_table=True")
    return lambda units: mu_NU[:, units]


def _means(
    result: UnitMemResult, columns: Columns, first: int, sizes: Sequence[int], seed: int
) -> list[tuple[int, float]]:
    """Each size with the mean score on so many images, of the units from ``first`` on; a block of them at a time."""
    taken = sorted({size for size in sizes if 2 <= size <= result.n})
    order = torch.from_numpy(np.random.default_rng(seed).permutation(result.n))
    scores: list[list[Tensor]] = [[] for _ in taken]
    count, step = result.mu_max.numel(), max(1, BLOCK_ENTRIES // result.n)
    for start in range(0, count, step):
        stop = min(start + step, count)
        mu = columns(slice(first + start, first + stop))
        alive = (~result.dead[start:stop]).nonzero().flatten().to(mu.device)
        mu = mu[order.to(mu.device)[:, None], alive]
        for kept, size in zip(scores, taken, strict=True):
            kept.append(_score(mu[:size]))
    return [(size, float(torch.cat(kept).mean())) for size, kept in zip(taken, scores, strict=True)]


def _score(mu_NU: Tensor) -> Tensor:
    mu_max = mu_NU.amax(0).double()
    return unitmem_from_extremes(mu_max, (mu_NU.sum(0, dtype=torch.float64) - mu_max) / (len(mu_NU) - 1))


def unit_scores(results: Results, excess: Table, held_out: Results | None = None) -> Scores:
    """Three scores of every unit, over all layers: on the images, drawn from the null, and on held-out images.

    Args:
        results: layer -> result.
        excess: columns ``UNITMEM_EXCESS``, of the same units.
        held_out: the same units on images that nobody was trained on.

    Returns:
        ``scored``, ``null`` (where there are enough images for one) and ``held_out`` (where there are any); NaN for
        units that are dead there.
    """
    every = {"scored": _living(results), "null": excess["null_draw"]}
    if held_out is not None:
        every["held_out"] = _living({layer: held_out[layer] for layer in results})
    return {name: scores for name, scores in every.items() if np.isfinite(scores).any()}


def _living(results: Results) -> NDArray[np.float64]:
    return np.concatenate([np.where(as_array(r.dead), np.nan, as_array(r.unitmem_mean)) for r in results.values()])


def highest_units(table: Table, excess: Table, count: int = 20) -> Table:
    """The units with the highest scores beside their null and held-out score: ``unitmem/highest.csv``, ranks from 1.

    Args:
        table: columns ``UNITMEM_TABLE``.
        excess: columns ``UNITMEM_EXCESS``, of the same units.
        count: how many; fewer where fewer are alive.
    """
    alive = np.flatnonzero(~table["dead"])
    order = alive[np.argsort(-table["unitmem"][alive], kind="stable")][:count]
    columns = {name: column[order] for name, column in {**excess, **table}.items() if name in UNITMEM_HIGHEST}
    return {"rank": np.arange(1, len(order) + 1), **columns}


def extreme_tests(layers: NDArray[np.str_], scores: Scores) -> Table:
    """Welch's two-sided test of a layer's top against its bottom 10 % of units, as Jafari prints it: ``tests.csv``.

    It selects on what it tests. The same test of null and held-out scores stands beside it and shows what it gives
    where no image is special. Standard deviations are those of samples (n - 1), as the published ones.

    Args:
        layers: ``(U,)`` layer of each unit.
        scores: of `unit_scores`.
    """
    rows = []
    for layer, name, values in _by_layer(layers, scores):
        bottom, top = tenths(values)
        spreads = [number for part in (top, bottom) for number in (mean_of(part), _std(part))]
        rows.append((layer, name, len(top), *spreads, *welch(top, bottom)))
    return table_of(UNITMEM_TESTS, rows)


def extreme_shares(layers: NDArray[np.str_], scores: Scores) -> Table:
    """Share of a layer's living units in the top and bottom 10 % of all layers' units: ``extremes.csv``.

    Args:
        layers: ``(U,)`` layer of each unit.
        scores: of `unit_scores`; each has top and bottom of its own.
    """
    limits = {name: tenths(_sorted(values)) for name, values in scores.items()}
    rows = []
    for layer, name, values in _by_layer(layers, scores):
        bottom, top = limits[name]
        rows.append((layer, name, len(values), mean_of(values >= top[0]), mean_of(values <= bottom[-1])))
    return table_of(UNITMEM_EXTREMES, rows)


def _by_layer(layers: NDArray[np.str_], scores: Scores) -> Iterator[tuple[str, str, NDArray[np.float64]]]:
    """Layer, name of the scores, and these scores of the layer's living units in ascending order."""
    for layer in dict.fromkeys(layers.tolist()):
        for name, values in scores.items():
            yield layer, name, _sorted(values[layers == layer])


def median_agreement(results: Results, held_out: Results | None = None) -> Table:
    """UnitMem against the mean and against the median of the other images, by layer: ``unitmem/medians.csv``.

    ``pearson`` and ``spearman`` correlate both forms over a layer's living units (the last row: all layers'); NaN
    where they have no spread. ``null`` and ``null_median`` are the means of what exchangeable images would score.

    Args:
        results: layer -> result with its median form.
        held_out: layer -> result with its median form, of images that nobody was trained on; None leaves them out.
    """
    rows = []
    for name, measured in (("scored", results), ("held_out", held_out)):
        if measured is None:
            continue
        parts = [_both_forms(measured[layer]) for layer in results]
        for layer, forms in zip([*results, ALL], [*parts, np.concatenate(parts, axis=1)], strict=True):
            rows.append((layer, name, forms.shape[1], *(mean_of(form) for form in forms), *_correlations(*forms[:2])))
    return table_of(UNITMEM_MEDIANS, rows)


def _both_forms(result: UnitMemResult) -> NDArray[np.float64]:
    """``(4, living units)``: the score against the mean, against the median, and the nulls of both."""
    if result.unitmem_median is None or result.mu_rest_median is None:
        raise ValueError("the median form is needed: measure with reference='median'")
    alive = as_array(~result.dead)
    tail = as_array(result.tail_mu)[:, alive]
    rests = (as_array(result.mu_rest_mean)[alive], as_array(result.mu_rest_median)[alive])
    nulls = [unitmem_null(tail, rest, result.n)[0] for rest in rests]
    return np.stack([as_array(result.unitmem_mean)[alive], as_array(result.unitmem_median)[alive], *nulls])


def _correlations(a: NDArray[np.float64], b: NDArray[np.float64]) -> tuple[float, float]:
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan"), float("nan")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="An input array is nearly constant")
        return float(stats.pearsonr(a, b).statistic), float(stats.spearmanr(a, b).statistic)


def _sorted(values: NDArray[np.float64]) -> NDArray[np.float64]:
    ordered: NDArray[np.float64] = np.sort(values[np.isfinite(values)])
    return ordered


def _std(values: NDArray[np.float64]) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else float("nan")
