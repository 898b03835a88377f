"""Columns of the tables of exchanged layers."""

from memlight.storage.schema import Column, Schema, columns, interval

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
