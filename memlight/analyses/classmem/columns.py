"""Columns of the tables of ClassMem."""

from collections.abc import Mapping
from typing import Any

from memlight.storage.schema import Column, Schema, columns

CLASSMEM_TABLE: Schema = {
    "layer": Column(str, "layer"),
    **columns(int, "depth"),
    "unit": Column(int, "unit"),
    "classmem": Column(float, "ClassMem"),
    **columns(int, "max_class"),
    "mu_max": Column(float, "mu max"),
    "mu_rest": Column(float, "mu rest"),
}

CLASSMEM_LAYERS: Schema = {
    "layer": Column(str, "layer"),
    **columns(int, "depth"),
    "units": Column(int, "units"),
    "dead": Column(int, "dead"),
    "mean": Column(float, "mean", digits=3),
    "p95": Column(float, "95 % of units", digits=3),
    "max": Column(float, "max", digits=3),
    "null_mean": Column(float, "null mean", digits=3),
    "null_p95": Column(float, "null 95 %", digits=3),
    "held_out_mean": Column(float, "held-out mean", digits=3),
    "unitmem_mean": Column(float, "mean UnitMem", digits=3),
}

CLASSMEM_CLASSES: Schema = {
    **columns(int, "class"),
    **columns(str, "class_name"),
    **columns(int, "images"),
}


def headline(tables: Mapping[str, Any]) -> dict[str, float]:
    """Mean ClassMem of the last layer."""
    return {"classmem/last": float(tables["layers"]["mean"][-1])} if "layers" in tables else {}
