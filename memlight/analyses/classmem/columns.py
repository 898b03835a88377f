"""Columns of the tables of ClassMem."""

from collections.abc import Mapping
from typing import Any

from memlight.analyses.unitmem.columns import UNITMEM_TABLE
from memlight.storage.schema import Column, Schema, columns, titled

CLASSMEM_TABLE: Schema = {
    "layer": Column(str, "layer"),
    **columns(int, "depth"),
    "unit": Column(int, "unit"),
    "classmem": Column(float, "ClassMem"),
    **columns(int, "max_class"),
    **titled(float, mu_max="mu max", mu_rest="mu rest"),
}

CLASSMEM_LAYERS: Schema = {
    "layer": Column(str, "layer"),
    **columns(int, "depth"),
    **titled(int, units="units", dead="dead"),
    **titled(float, 3, mean="mean", p95="95 % of units", max="max"),
    **titled(float, 3, null_mean="null mean", null_p95="null 95 %"),
    **titled(float, 3, held_out_mean="held-out mean", unitmem_mean="mean UnitMem"),
}

CLASSMEM_CLASSES: Schema = {**columns(int, "class"), **columns(str, "class_name"), **columns(int, "images")}

TABLES: Mapping[str, Schema] = {
    "table": CLASSMEM_TABLE,
    "layers": CLASSMEM_LAYERS,
    "unitmem": UNITMEM_TABLE,
    "classes": CLASSMEM_CLASSES,
}
"""Columns of every table by the name of its file."""


def headline(tables: Mapping[str, Any]) -> dict[str, float]:
    """Mean ClassMem of the last layer."""
    return {"classmem/last": float(tables["layers"]["mean"][-1])} if "layers" in tables else {}
