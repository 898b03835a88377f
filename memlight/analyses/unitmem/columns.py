"""Columns of the tables of UnitMem."""

from collections.abc import Mapping
from typing import Any

from memlight.runs.analysis import with_ends
from memlight.storage.schema import Schema, columns, interval

UNITMEM_TABLE: Schema = {
    **columns(str, "layer"),
    **columns(int, "depth", "unit"),
    **columns(float, "unitmem", "mu_max", "mu_rest"),
    **columns(int, "max_id"),
    **columns(bool, "dead"),
    **columns(float, "unitmem_median", "mu_rest_median", optional=True),
}

UNITMEM_LAYERS: Schema = {
    **columns(str, "layer"),
    **columns(int, "depth", "units", "dead"),
    **columns(
        float, "mean", "p95", "max", "top_mean", "bottom_mean", "null_mean", "null_p95", "held_out_mean", "t", "p"
    ),
    **interval("unit_contrast", optional=True),
    **columns(float, "own_max_share", "own_max_low", "own_max_high", optional=True),
}

UNITMEM_EXCESS: Schema = {
    **columns(str, "layer"),
    **columns(int, "depth", "unit"),
    **columns(float, "unitmem", "null", "null_p95", "excess", "held_out"),
    **columns(float, "null_draw", optional=True),
}

UNITMEM_NULL: Schema = {
    **columns(str, "layer"),
    **columns(float, "mean", "null_mean"),
    **interval("excess"),
    **columns(float, "held_out_excess", "held_out_low", "held_out_high", "above_null_p95"),
}

UNITMEM_HIGHEST: Schema = {
    **columns(int, "rank"),
    **columns(str, "layer"),
    **columns(int, "unit"),
    **columns(float, "unitmem", "null", "null_p95", "held_out", "mu_max", "mu_rest"),
    **columns(int, "max_id"),
    **columns(float, "unitmem_median", optional=True),
}

UNITMEM_TESTS: Schema = {
    **columns(str, "layer", "scores"),
    **columns(int, "k"),
    **columns(float, "top_mean", "top_std", "bottom_mean", "bottom_std", "t", "p"),
}

UNITMEM_EXTREMES: Schema = {
    **columns(str, "layer", "scores"),
    **columns(int, "units"),
    **columns(float, "top", "bottom"),
}

UNITMEM_MEDIANS: Schema = {
    **columns(str, "layer", "scores"),
    **columns(int, "units"),
    **columns(float, "mean", "median", "null", "null_median", "pearson", "spearman"),
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
    found = {"unitmem/last": float(layers["mean"][-1])}
    if "unit_contrast" in layers:
        share = {
            "own_max_share": "own_max_share",
            "own_max_share_low": "own_max_low",
            "own_max_share_high": "own_max_high",
        }
        shares = {name: layers[column] for name, column in share.items()}
        found |= with_ends(layers, -1, "unit_contrast", "unit_contrast/last")
        found |= with_ends(shares, -1, "own_max_share", "own_max_share/last")
    return found
