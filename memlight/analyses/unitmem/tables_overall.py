"""What is said of the highest and the lowest units, each time of null and held-out scores too."""

import warnings
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from memlight.analyses.unitmem.columns import UNITMEM_EXTREMES, UNITMEM_HIGHEST, UNITMEM_MEDIANS, UNITMEM_TESTS
from memlight.analyses.unitmem.tables import tenths
from memlight.metrics.null import unitmem_null
from memlight.metrics.unitmem import UnitMemResult
from memlight.stats import as_array, mean_of, welch
from memlight.storage.tables import Table, table_of

ALL = "all"
"""Stands for the layer in a row of all layers together."""

Results = Mapping[str, UnitMemResult]
Scores = dict[str, NDArray[np.float64]]


def unit_scores(results: Results, excess: Table, held_out: Results | None = None) -> Scores:
    """Three scores of every unit, ``(U,)`` over all layers: on the images, drawn from the null, on held-out images.

    Args:
        results: layer -> result.
        excess: columns ``UNITMEM_EXCESS``, of the same units.
        held_out: the same units on images that nobody was trained on.

    Returns:
        ``scored``, ``null`` (where there are enough images for one) and ``held_out`` (where there are any); NaN for
        units that are dead there.
    """
    found = {"scored": _living(results), "null": excess["null_draw"]}
    if held_out is not None:
        found["held_out"] = _living({layer: held_out[layer] for layer in results})
    return {name: scores for name, scores in found.items() if np.isfinite(scores).any()}


def _living(results: Results) -> NDArray[np.float64]:
    return np.concatenate([np.where(as_array(r.dead), np.nan, as_array(r.unitmem)) for r in results.values()])


def highest_units(table: Table, excess: Table, count: int = 20) -> Table:
    """The units with the highest scores beside their null and held-out score: ``unitmem/highest.csv``, ranks from 1.

    Args:
        table: columns ``UNITMEM_TABLE``.
        excess: columns ``UNITMEM_EXCESS``, of the same units.
        count: how many; fewer where fewer live.
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
    for layer in dict.fromkeys(layers.tolist()):
        for name, values in scores.items():
            bottom, top = tenths(_sorted(values[layers == layer]))
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
    for layer in dict.fromkeys(layers.tolist()):
        for name, values in scores.items():
            own, (bottom, top) = _sorted(values[layers == layer]), limits[name]
            rows.append((layer, name, len(own), mean_of(own >= top[0]), mean_of(own <= bottom[-1])))
    return table_of(UNITMEM_EXTREMES, rows)


def median_agreement(results: Results, held_out: Results | None = None) -> Table:
    """UnitMem against the mean and against the median of the other images, by layer: ``unitmem/medians.csv``.

    ``pearson`` and ``spearman`` correlate both forms over a layer's living units (the last row: all layers'); NaN
    where they have no spread. ``null`` and ``null_median`` are the means of what exchangeable images would score.

    Args:
        results: layer -> result with its median form.
        held_out: likewise, of images that nobody was trained on.
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
    rests = (as_array(result.mu_rest)[alive], as_array(result.mu_rest_median)[alive])
    nulls = [unitmem_null(tail, rest, result.n)[0] for rest in rests]
    return np.stack([as_array(result.unitmem)[alive], as_array(result.unitmem_median)[alive], *nulls])


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
