"""Columns of the tables of UnitMem."""

from collections.abc import Mapping
from typing import Any

from memlight.analyses.columns_joined import JOINED
from memlight.runs.analysis import with_ends
from memlight.storage.schema import Column, Schema, claimed, columns, interval, path_of, titled

UNITMEM_TABLE: Schema = {
    **columns(str, "layer"),
    **columns(int, "depth", "unit"),
    **columns(float, "unitmem", "mu_max", "mu_rest"),
    **columns(int, "max_id"),
    **columns(bool, "dead"),
    **columns(float, "unitmem_median", "mu_rest_median", optional=True),
    **path_of("max_id"),
}

UNITMEM_LAYERS: Schema = {
    "layer": Column(str, "layer"),
    **columns(int, "depth"),
    **titled(int, units="units", dead="dead"),
    "mean": Column(float, "mean", digits=3),
    **columns(float, "p95"),
    **titled(float, 3, max="max", top_mean="top 10 %", bottom_mean="bottom 10 %"),
    **titled(float, 3, null_mean="null mean", null_p95="null 95 %", held_out_mean="held-out mean"),
    **columns(float, "t", "p"),
    **interval("unit_contrast", title="unit contrast", optional=True),
    "own_max_share": Column(float, "own-max share", digits=3, optional=True),
    **columns(float, "own_max_low", "own_max_high", optional=True),
    **claimed("unit_contrast"),
    **claimed("own_max"),
}

UNITMEM_EXCESS: Schema = {
    **columns(str, "layer"),
    **columns(int, "depth", "unit"),
    **columns(float, "unitmem", "null", "null_p95", "excess", "held_out"),
    **columns(float, "null_draw", optional=True),
    **columns(bool, "p95_calibrated", optional=True),
}

UNITMEM_NULL: Schema = {
    "layer": Column(str, "layer"),
    **titled(float, 3, mean="mean", null_mean="null mean"),
    **interval("excess", title="excess"),
    "held_out_excess": Column(float, "held-out excess"),
    **columns(float, "held_out_low", "held_out_high"),
    "above_null_p95": Column(float, "units above null 95 %", digits=3),
    "held_out_above_null_p95": Column(float, "the same, held-out", digits=3, optional=True),
    "tail_shape": Column(float, "shape of tails", digits=2, optional=True),
    "p95_calibrated": Column(bool, "calibrated", optional=True),
    "other_excess": Column(float, "other's images", optional=True),
    **interval("over_other", title="excess over theirs", optional=True),
    **claimed("over_other"),
}

UNITMEM_HIGHEST: Schema = {
    "rank": Column(int, "rank"),
    "layer": Column(str, "layer"),
    "unit": Column(int, "unit"),
    **titled(float, 3, unitmem="UnitMem", null="null", null_p95="null 95 %", held_out="held out"),
    **titled(float, mu_max="mu max", mu_rest="mu rest"),
    "max_id": Column(int, "image id of the max"),
    "unitmem_median": Column(float, "median form", digits=3, optional=True),
    **path_of("max_id"),
}

UNITMEM_TESTS: Schema = {
    **titled(str, layer="layer", scores="scores"),
    "k": Column(int, "units each"),
    **titled(float, top_mean="top mean", top_std="std", bottom_mean="bottom mean", bottom_std="std"),
    "t": Column(float, "t", digits=2),
    "p": Column(float, "p"),
}

UNITMEM_EXTREMES: Schema = {
    **columns(str, "layer", "scores"),
    **columns(int, "units"),
    **columns(float, "top", "bottom"),
}

UNITMEM_MEDIANS: Schema = {
    **titled(str, layer="layer", scores="scores"),
    "units": Column(int, "living units"),
    **titled(float, 3, mean="mean, against the mean", median="mean, against the median"),
    **titled(float, 3, null="its null", null_median="its null"),
    **titled(float, 3, pearson="correlation", spearman="rank correlation"),
}

UNITMEM_TOP: Schema = {**columns(str, "layer"), **columns(int, "unit", "rank", "id"), **columns(float, "mu")}

UNITMEM_RELIABILITY: Schema = {**columns(str, "layer"), **columns(float, "split_half")}

UNITMEM_CURVE: Schema = {**columns(str, "layer"), **columns(int, "n"), **columns(float, "mean")}

TABLES: Mapping[str, Schema] = {
    "table": UNITMEM_TABLE,
    "layers": UNITMEM_LAYERS,
    "held_out": UNITMEM_TABLE,
    "excess": UNITMEM_EXCESS,
    "null": UNITMEM_NULL,
    "top": UNITMEM_TOP,
    "reliability": UNITMEM_RELIABILITY,
    "curve": UNITMEM_CURVE,
    "highest": UNITMEM_HIGHEST,
    "tests": UNITMEM_TESTS,
    "extremes": UNITMEM_EXTREMES,
    "medians": UNITMEM_MEDIANS,
    "joined": JOINED,
}
"""Columns of every table by the name of its file."""


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
