"""Columns of the tables of accuracies."""

from collections.abc import Mapping
from typing import Any

from memlight.storage.rundir import MEMBERS
from memlight.storage.schema import Column, Schema

PROBE_TABLE: Schema = {
    "member": Column(str, "encoder"),
    "features": Column(str, "features"),
    "evaluation": Column(str, "evaluation"),
    "top1": Column(float, "top-1 %", digits=2, percent=True),
    "top5": Column(float, "top-5 %", digits=2, percent=True),
    "n_train": Column(int, "trained on"),
    "n_test": Column(int, "tested on"),
}


def headline(tables: Mapping[str, Any]) -> dict[str, float]:
    """Top-1 of both evaluations, of the first of ``MEMBERS`` that was probed, or of an encoder not trained here."""
    if "table" not in tables:
        return {}
    table = tables["table"]
    probed = table["member"].tolist()
    member = next((role for role in (*MEMBERS, "encoder") if role in probed), None)
    numbers: dict[str, float] = {}
    for role, evaluation, top1 in zip(probed, table["evaluation"].tolist(), table["top1"].tolist(), strict=True):
        if role == member:
            numbers.setdefault(f"{evaluation}_top1", top1)
    return {name: numbers[name] for name in ("knn_top1", "linear_top1") if name in numbers}
