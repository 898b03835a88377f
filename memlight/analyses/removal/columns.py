"""Columns of the tables of removal studies."""

from memlight.storage.schema import Column, Schema, claimed, columns, interval, path_of

REMOVAL_WITHOUT: Schema = {
    **columns(int, "id"),
    **columns(str, "layer"),
    **columns(float, "score"),
    **path_of("id"),
}

REMOVAL_TABLE: Schema = {
    **columns(str, "arm"),
    "trial": Column(int, "draw"),
    "removed": Column(int, "images"),
    "probe_top1": Column(float, "probe top-1 %", digits=2, percent=True),
    "knn_top1": Column(float, "kNN top-1 %", digits=2, percent=True),
    "drop": Column(float, "probe lost (points)", digits=2, percent=True),
}

REMOVAL_EFFECTS: Schema = {
    **columns(str, "arm"),
    **columns(int, "removed"),
    **interval("drop"),
    **interval("random"),
    **columns(int, "draws"),
    **interval("excess"),
    **columns(str, "verdict"),
    **claimed("excess", "p_adjusted"),
}

REMOVAL_ARMS: Schema = {
    **columns(str, "arm"),
    "trial": REMOVAL_TABLE["trial"],
    "removed": REMOVAL_TABLE["removed"],
    **columns(str, "layer"),
    "mean_score": Column(float, "mean score"),
    "in_top": Column(int, "of the most memorised"),
    "class_shift": Column(float, "class shift", digits=3),
    "images_per_epoch": Column(int, "images an epoch"),
    "steps_per_epoch": Column(int, "steps an epoch"),
}

REMOVAL_CLASSES: Schema = {
    **columns(str, "arm"),
    **columns(int, "trial", "class"),
    **columns(str, "class_name"),
    **columns(int, "removed", "candidates"),
}
