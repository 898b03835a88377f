"""Columns of the tables of a single trained unit."""

from memlight.storage.schema import Column, Schema, columns, path_of

UNIT_TABLE: Schema = {
    "method": Column(str, "method"),
    "epoch": Column(int, "epoch"),
    "unitmem": Column(float, "UnitMem", digits=3),
    "mu_max": Column(float, "mu max"),
    "mu_rest": Column(float, "mu rest"),
    "max_id": Column(int, "max id"),
    "mu_of_ids": Column(float, "mu of chosen"),
    "rank": Column(int, "rank"),
    "null_mean": Column(float, "null", digits=3),
    **columns(float, "null_p95", "loss"),
    **path_of("max_id"),
}

UNIT_OTHERS: Schema = {
    **columns(str, "method"),
    **columns(int, "unit"),
    **columns(bool, "trained"),
    **columns(float, "unitmem_before", "unitmem_after"),
    **columns(int, "max_id_before", "max_id_after"),
    **path_of("max_id_before", "path_before"),
    **path_of("max_id_after", "path_after"),
}

UNIT_ACCURACY: Schema = {
    "encoder": Column(str, "encoder"),
    "probe_top1": Column(float, "new linear probe", digits=3),
    "knn_top1": Column(float, "kNN", digits=3),
    **columns(int, "n_train", "n_test"),
}
