"""Columns of the tables of accuracies."""

from collections.abc import Mapping
from typing import Any

from memlight.storage.rundir import MEMBERS
from memlight.storage.schema import Schema, columns

PROBE_TABLE: Schema = {
    **columns(str, "member", "features", "evaluation"),
    **columns(float, "top1", "top5"),
    **columns(int, "n_train", "n_test"),
}


def headline(tables: Mapping[str, Any]) -> dict[str, float]:
    """Top-1 of both evaluations, of the first of ``MEMBERS`` that was probed, or of an encoder not trained here."""
    if "table" not in tables:
        return {}
    table = tables["table"]
    probed = table["member"].tolist()
    member = next((role for role in (*MEMBERS, "encoder") if role in probed), None)
    found: dict[str, float] = {}
    for role, evaluation, top1 in zip(probed, table["evaluation"].tolist(), table["top1"].tolist(), strict=True):
        if role == member:
            found.setdefault(f"{evaluation}_top1", top1)
    return {name: found[name] for name in ("knn_top1", "linear_top1") if name in found}
