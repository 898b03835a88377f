"""Columns of the tables of pruning."""

from memlight.storage.schema import Schema, columns, interval

PRUNE_TABLE: Schema = {
    **columns(str, "mode", "scope"),
    **columns(float, "ratio"),
    **columns(int, "trial", "units"),
    **columns(float, "probe_top1", "knn_top1", "drop"),
}

PRUNE_EFFECTS: Schema = {
    **columns(str, "scope"),
    **columns(float, "ratio"),
    **columns(str, "mode"),
    **columns(int, "units", "dead"),
    **interval("drop"),
    **interval("random"),
    **columns(int, "draws"),
    **interval("excess"),
    **columns(str, "verdict"),
}

PRUNE_UNITS: Schema = {
    **columns(str, "mode", "scope"),
    **columns(float, "ratio"),
    **columns(int, "trial"),
    **columns(str, "layer"),
    **columns(int, "units", "dead"),
    **columns(str, "pruned"),
}
