"""Columns of the tables of ClassMem."""

from collections.abc import Mapping
from typing import Any

from memlight.storage.schema import Schema, columns

CLASSMEM_TABLE: Schema = {
    **columns(str, "layer"),
    **columns(int, "depth", "unit"),
    **columns(float, "classmem"),
    **columns(int, "max_class"),
    **columns(float, "mu_max", "mu_rest"),
}

CLASSMEM_LAYERS: Schema = {
    **columns(str, "layer"),
    **columns(int, "depth", "units", "dead"),
    **columns(float, "mean", "p95", "max", "null_mean", "null_p95", "held_out_mean", "unitmem_mean"),
}

CLASSMEM_CLASSES: Schema = {
    **columns(int, "class"),
    **columns(str, "class_name"),
    **columns(int, "images"),
}


def headline(tables: Mapping[str, Any]) -> dict[str, float]:
    """Mean ClassMem of the last layer."""
    return {"classmem/last": float(tables["layers"]["mean"][-1])} if "layers" in tables else {}
