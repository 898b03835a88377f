"""Columns of the tables of UnitMem."""

from collections.abc import Mapping
from typing import Any

from memlight.runs.analysis import with_ends
from memlight.storage.schema import Column, Schema, columns, interval

UNITMEM_TABLE: Schema = {
    **columns(str, "layer"),
    **columns(int, "depth", "unit"),
    **columns(float, "unitmem", "mu_max", "mu_rest"),
    **columns(int, "max_id"),
    **columns(bool, "dead"),
    **columns(float, "unitmem_median", "mu_rest_median", optional=True),
}

UNITMEM_LAYERS: Schema = {
    "layer": Column(str, "layer"),
    **columns(int, "depth"),
    "units": Column(int, "units"),
    "dead": Column(int, "dead"),
    "mean": Column(float, "mean", digits=3),
    **columns(float, "p95"),
    "max": Column(float, "max", digits=3),
    "top_mean": Column(float, "top 10 %", digits=3),
    "bottom_mean": Column(float, "bottom 10 %", digits=3),
    "null_mean": Column(float, "null mean", digits=3),
    "null_p95": Column(float, "null 95 %", digits=3),
    "held_out_mean": Column(float, "held-out mean", digits=3),
    **columns(float, "t", "p"),
    **interval("unit_contrast", title="unit contrast", optional=True),
    "own_max_share": Column(float, "own-max share", digits=3, optional=True),
    **columns(float, "own_max_low", "own_max_high", optional=True),
}

UNITMEM_EXCESS: Schema = {
    **columns(str, "layer"),
    **columns(int, "depth", "unit"),
    **columns(float, "unitmem", "null", "null_p95", "excess", "held_out"),
    **columns(float, "null_draw", optional=True),
}

UNITMEM_NULL: Schema = {
    "layer": Column(str, "layer"),
    "mean": Column(float, "mean", digits=3),
    "null_mean": Column(float, "null mean", digits=3),
    **interval("excess", title="excess"),
    "held_out_excess": Column(float, "held-out excess"),
    **columns(float, "held_out_low", "held_out_high"),
    "above_null_p95": Column(float, "units above null 95 %", digits=3),
}

UNITMEM_HIGHEST: Schema = {
    "rank": Column(int, "rank"),
    "layer": Column(str, "layer"),
    "unit": Column(int, "unit"),
    "unitmem": Column(float, "UnitMem", digits=3),
    "null": Column(float, "null", digits=3),
    "null_p95": Column(float, "null 95 %", digits=3),
    "held_out": Column(float, "held out", digits=3),
    "mu_max": Column(float, "mu max"),
    "mu_rest": Column(float, "mu rest"),
    "max_id": Column(int, "image id of the max"),
    "unitmem_median": Column(float, "median form", digits=3, optional=True),
}

UNITMEM_TESTS: Schema = {
    "layer": Column(str, "layer"),
    "scores": Column(str, "scores"),
    "k": Column(int, "units each"),
    "top_mean": Column(float, "top mean"),
    "top_std": Column(float, "std"),
    "bottom_mean": Column(float, "bottom mean"),
    "bottom_std": Column(float, "std"),
    "t": Column(float, "t", digits=2),
    "p": Column(float, "p"),
}

UNITMEM_EXTREMES: Schema = {
    **columns(str, "layer", "scores"),
    **columns(int, "units"),
    **columns(float, "top", "bottom"),
}

UNITMEM_MEDIANS: Schema = {
    "layer": Column(str, "layer"),
    "scores": Column(str, "scores"),
    "units": Column(int, "living units"),
    "mean": Column(float, "mean, against the mean", digits=3),
    "median": Column(float, "mean, against the median", digits=3),
    "null": Column(float, "its null", digits=3),
    "null_median": Column(float, "its null", digits=3),
    "pearson": Column(float, "correlation", digits=3),
    "spearman": Column(float, "rank correlation", digits=3),
}

UNITMEM_TOP: Schema = {
    **columns(str, "layer"),
    **columns(int, "unit", "rank", "id"),
    **columns(float, "mu"),
}

UNITMEM_RELIABILITY: Schema = {
    **columns(str, "layer"),
    **columns(float, "split_half"),
}

UNITMEM_CURVE: Schema = {
    **columns(str, "layer"),
    **columns(int, "n"),
    **columns(float, "mean"),
}


def headline(tables: Mapping[str, Any]) -> dict[str, float]:
    """Mean UnitMem of the last layer; for a pair also its unit contrast and own-max share."""
    if "layers" not in tables:
        return {}
    layers = tables["layers"]
    numbers = {"unitmem/last": float(layers["mean"][-1])}
    if "unit_contrast" in layers:
        numbers |= with_ends(layers, -1, "unit_contrast", "unit_contrast/last")
        columns_of = {"": "own_max_share", "_low": "own_max_low", "_high": "own_max_high"}
        numbers |= {f"own_max_share/last{end}": float(layers[column][-1]) for end, column in columns_of.items()}
    return numbers
