"""Columns of the tables of removal studies."""

from memlight.storage.schema import Schema, columns, interval

REMOVAL_WITHOUT: Schema = {
    **columns(int, "id"),
    **columns(str, "layer"),
    **columns(float, "score"),
}

REMOVAL_TABLE: Schema = {
    **columns(str, "arm"),
    **columns(int, "trial", "removed"),
    **columns(float, "probe_top1", "knn_top1", "drop"),
}

REMOVAL_EFFECTS: Schema = {
    **columns(str, "arm"),
    **columns(int, "removed"),
    **interval("drop"),
    **interval("random"),
    **columns(int, "draws"),
    **interval("excess"),
    **columns(str, "verdict"),
}

REMOVAL_ARMS: Schema = {
    **columns(str, "arm"),
    **columns(int, "trial", "removed"),
    **columns(str, "layer"),
    **columns(float, "mean_score"),
    **columns(int, "in_top"),
    **columns(float, "class_shift"),
    **columns(int, "images_per_epoch", "steps_per_epoch"),
}

REMOVAL_CLASSES: Schema = {
    **columns(str, "arm"),
    **columns(int, "trial", "class"),
    **columns(str, "class_name"),
    **columns(int, "removed", "candidates"),
}
