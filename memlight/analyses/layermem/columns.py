"""Columns of the tables of LayerMem."""

import math
from collections.abc import Mapping
from typing import Any

from memlight.runs.analysis import with_ends
from memlight.storage.schema import Column, Schema, columns, interval, path_of, titled

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
    "p_adjusted": Column(float, "adjusted p", optional=True),
    **columns(float, "contrast_simultaneous_low", "contrast_simultaneous_high", optional=True),
}

LAYERMEM_SAMPLES: Schema = {
    **columns(int, "id"),
    **columns(str, "split"),
    **columns(int, "label"),
    **columns(str, "layer"),
    **columns(float, "align_f", "align_g", "score"),
    **columns(float, "log_norm_f", "log_norm_g", "density_f", "density_g", optional=True),
    **path_of("id"),
}

MEMBERSHIP: Schema = {
    "layer": Column(str, "layer"),
    **columns(int, "depth"),
    **interval("auc_pair", title="AUC of the pair", digits=3),
    **interval("auc_attack", title="attack", digits=3),
    **interval("auc_alone", title="alone", digits=3),
    **titled(float, 3, auc_norm="norm", auc_density="density", auc_probe="probe"),
    "tpr_at_1": Column(float, "TPR at 1 % FPR", digits=1, percent=True),
    "tpr_at_01": Column(float, "TPR at .1 % FPR", digits=1, percent=True),
    **columns(float, "p_adjusted"),
    **columns(int, "n"),
    **columns(float, "auc_pair_simultaneous_low", "auc_pair_simultaneous_high"),
    **columns(float, "auc_pair_normal", "auc_alone_placebo"),
    **columns(float, "tpr_at_1_low", "tpr_at_1_high", "tpr_at_01_low", "tpr_at_01_high"),
}

PLACEBOS: Schema = {
    "placebo": Column(str, "placebo"),
    "layer": Column(str, "layer"),
    **columns(int, "depth"),
    **interval("contrast", title="contrast"),
    "p_adjusted": Column(float, "adjusted p"),
    **interval("auc", title="AUC", digits=3),
    "outside": Column(float, "splits outside the band", digits=1, percent=True),
    **columns(int, "n"),
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
    """Contrast and LayerMem of the last layer; the highest contrast and the highest AUC, with their layers.

    What stands beside a highest layer is its simultaneous band and its adjusted p: an interval of its own would be that
    of a maximum that was chosen among all layers.
    """
    numbers: dict[str, float | str] = {}
    if "table" in tables:
        table = tables["table"]
        numbers |= {**with_ends(table, -1, "contrast", "contrast/last"), "layermem/last": float(table["layermem"][-1])}
        numbers |= _peak(table, "contrast", "contrast/peak")
    if "membership" in tables:
        numbers |= _peak(tables["membership"], "auc_pair", "membership/auc_pair_peak")
    return numbers


def _peak(table: Mapping[str, Any], column: str, name: str) -> dict[str, float | str]:
    """The highest of a column over layers with its band, adjusted p and layer; nothing where all are NaN."""
    finite = [row for row, value in enumerate(table[column].tolist()) if math.isfinite(value)]
    if not finite:
        return {}
    row = max(finite, key=lambda row: float(table[column][row]))
    numbers: dict[str, float | str] = {name: float(table[column][row])}
    for end, source in (
        ("low", f"{column}_simultaneous_low"),
        ("high", f"{column}_simultaneous_high"),
        ("p", "p_adjusted"),
    ):
        numbers[f"{name}_{end}"] = float(table[source][row]) if source in table else math.nan
    return {**numbers, f"{name}_layer": str(table["layer"][row])}
