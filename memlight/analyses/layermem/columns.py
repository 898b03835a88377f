"""Columns of the tables of LayerMem."""

import math
from collections.abc import Mapping
from typing import Any

from memlight.runs.analysis import with_ends
from memlight.storage.schema import Column, Schema, columns, interval

LAYERMEM_TABLE: Schema = {
    "layer": Column(str, "layer"),
    **columns(int, "depth"),
    "layermem": Column(float, "LayerMem"),
    "delta": Column(float, "delta"),
    "control_independent": Column(float, "independent"),
    "control_external": Column(float, "external"),
    "control_shared": Column(float, "shared"),
    **interval("contrast", title="contrast"),
    "top50": Column(float, "top 50"),
    "least50": Column(float, "least 50"),
    **columns(int, "n"),
}

LAYERMEM_SAMPLES: Schema = {
    **columns(int, "id"),
    **columns(str, "split"),
    **columns(int, "label"),
    **columns(str, "layer"),
    **columns(float, "align_f", "align_g", "score"),
}

LAYERMEM_INTERVALS: Schema = {
    **columns(str, "layer"),
    **interval("layermem"),
    **interval("top50"),
    **interval("least50"),
    **interval("control_independent"),
    **interval("control_external"),
    **interval("control_shared"),
}

LAYERMEM_TESTS: Schema = {
    "layer": Column(str, "layer"),
    "control": Column(str, "control"),
    "t": Column(float, "t", digits=2),
    **columns(float, "p"),
}

LAYERMEM_AGREEMENT: Schema = {
    **columns(str, "split", "layer_a", "layer_b"),
    **columns(int, "n", "top", "overlap"),
    **columns(float, "chance"),
    **columns(int, "chance_p95"),
    **interval("tau"),
}

LAYERMEM_BLOCKS: Schema = {
    **columns(int, "block"),
    **columns(str, "part", "layer"),
    **columns(float, "layermem", "delta"),
    **interval("contrast"),
}


def headline(tables: Mapping[str, Any]) -> dict[str, float | str]:
    """Contrast and LayerMem of the last layer, and the highest contrast with the name of its layer."""
    if "table" not in tables:
        return {}
    table = tables["table"]
    last = {**with_ends(table, -1, "contrast", "contrast/last"), "layermem/last": float(table["layermem"][-1])}
    finite = [row for row, value in enumerate(table["contrast"].tolist()) if math.isfinite(value)]
    if not finite:
        return {**last}
    peak = max(finite, key=lambda row: float(table["contrast"][row]))
    highest = with_ends(table, peak, "contrast", "contrast/peak")
    return {**last, **highest, "contrast/peak_layer": str(table["layer"][peak])}
