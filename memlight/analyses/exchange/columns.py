"""Columns of the tables of exchanged layers, and how the rows of accuracies are read."""

from collections.abc import Mapping
from typing import Any

from memlight.storage.schema import Column, Schema, claimed, columns, interval

EXCHANGE_TABLE: Schema = {
    **columns(str, "layers", "dataset"),
    **columns(float, "probe_top1", "layermem_before", "layermem_after"),
}

EXCHANGE_EFFECTS: Schema = {
    **columns(str, "layers", "dataset"),
    **columns(bool, "recalibrated"),
    **columns(float, "top1"),
    **interval("drop"),
    **columns(float, "knn_top1"),
    **columns(int, "n_train", "n_test"),
    **claimed("drop", "p_adjusted"),
}

EXCHANGE_LAYERS: Schema = {
    "layers": Column(str, "layers"),
    "layer": Column(str, "layer"),
    **columns(bool, "recalibrated"),
    "layermem_before": Column(float, "LayerMem before"),
    "layermem_after": Column(float, "after"),
    **interval("contrast_before", title="contrast before"),
    **interval("contrast_after", title="after"),
}

NONE, DONOR = "none", "donor"
"""In place of layers: the recipient as it was trained, and the donor."""


def by_cost(effects: Mapping[str, Any], dataset: str, recalibrated: bool = False) -> dict[str, int]:
    """Rows of all encoders on a data set and in one form, by name: none, donor, then copies, the least costly first.

    Args:
        effects: columns ``EXCHANGE_EFFECTS``.
        dataset: its name.
        recalibrated: with BatchNorm statistics measured anew, or as they are.
    """
    of_form = (effects["dataset"] == dataset) & (effects["recalibrated"] == recalibrated)
    row_of = {effects["layers"][row].item(): row for row in of_form.nonzero()[0].tolist()}
    copies = sorted(row_of.keys() - {NONE, DONOR}, key=lambda name: (effects["drop"][row_of[name]], row_of[name]))
    return {name: row_of[name] for name in (NONE, DONOR, *copies)}
