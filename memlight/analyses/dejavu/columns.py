"""Columns of the tables of Deja Vu."""

from collections.abc import Mapping
from typing import Any

from memlight.runs.analysis import with_ends
from memlight.storage.schema import Column, Schema, claimed, columns, interval, path_of, titled

_DIFFERENCES: Schema = {
    **interval("difference", title="difference of MRR"),
    **claimed("difference", "p_adjusted"),
    **interval("top1_difference", title="difference of top-1, %", digits=2, percent=True),
    **claimed("top1_difference", "top1_p_adjusted"),
    "n": Column(int, "images"),
}

DEJAVU_TABLE: Schema = {
    "layer": Column(str, "layer"),
    **columns(int, "depth"),
    **titled(float, 4, mrr_f_candidate="MRR of f on candidates", mrr_g_candidate="of g on them"),
    **titled(float, 4, mrr_f_independent="of f on independent", mrr_g_independent="of g on them"),
    **columns(float, "top1_f_candidate", "top1_g_candidate", "top1_f_independent", "top1_g_independent"),
    **_DIFFERENCES,
}

DEJAVU_PLACEBOS: Schema = {
    "placebo": Column(str, "halves of"),
    "layer": Column(str, "layer"),
    **columns(int, "depth"),
    **titled(float, 4, mrr_f="MRR of f", mrr_g="MRR of g"),
    **columns(float, "top1_f", "top1_g"),
    **_DIFFERENCES,
}

DEJAVU_SAMPLES: Schema = {
    **columns(int, "id"),
    **columns(str, "split"),
    **columns(int, "label"),
    **columns(str, "layer"),
    **columns(float, "reciprocal_rank_f", "reciprocal_rank_g", "top1_f", "top1_g"),
    **path_of("id"),
}

TABLES: Mapping[str, Schema] = {"table": DEJAVU_TABLE, "placebos": DEJAVU_PLACEBOS, "samples": DEJAVU_SAMPLES}
"""Columns of every table by the name of its file."""


def headline(tables: Mapping[str, Any]) -> dict[str, float]:
    """The difference in the last layer, with that layer's own interval."""
    return with_ends(tables["table"], -1, "difference", "dejavu/last") if "table" in tables else {}
