"""Columns of the tables of a single trained unit."""

from memlight.storage.schema import Schema, columns

UNIT_TABLE: Schema = {
    **columns(str, "method"),
    **columns(int, "epoch"),
    **columns(float, "unitmem", "mu_max", "mu_rest"),
    **columns(int, "max_id"),
    **columns(float, "mu_of_ids"),
    **columns(int, "rank"),
    **columns(float, "null_mean", "null_p95", "loss"),
}

UNIT_OTHERS: Schema = {
    **columns(str, "method"),
    **columns(int, "unit"),
    **columns(bool, "trained"),
    **columns(float, "unitmem_before", "unitmem_after"),
    **columns(int, "max_id_before", "max_id_after"),
}

UNIT_ACCURACY: Schema = {
    **columns(str, "encoder"),
    **columns(float, "probe_top1", "knn_top1"),
    **columns(int, "n_train", "n_test"),
}
