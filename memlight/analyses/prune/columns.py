"""Columns of the tables of pruning."""

from memlight.storage.schema import Column, Schema, claimed, columns, interval

PRUNE_TABLE: Schema = {
    "mode": Column(str, "mode"),
    "scope": Column(str, "scope"),
    "ratio": Column(float, "share %", digits=0, percent=True),
    "trial": Column(int, "draw"),
    "units": Column(int, "units"),
    "probe_top1": Column(float, "probe top-1 %", digits=2, percent=True),
    "knn_top1": Column(float, "kNN top-1 %", digits=2, percent=True),
    "drop": Column(float, "probe lost (points)", digits=2, percent=True),
}

PRUNE_EFFECTS: Schema = {
    **columns(str, "scope"),
    **columns(float, "ratio"),
    **columns(str, "mode"),
    "units": Column(int, "number"),
    "dead": Column(int, "of them dead"),
    **interval("drop", title="lost", digits=2, percent=True),
    **interval("random"),
    **columns(int, "draws"),
    **interval("excess", title="excess", digits=2, percent=True),
    **columns(str, "verdict"),
    **claimed("excess", "p_adjusted"),
}

PRUNE_UNITS: Schema = {
    **columns(str, "mode", "scope"),
    **columns(float, "ratio"),
    **columns(int, "trial"),
    **columns(str, "layer"),
    **columns(int, "units", "dead"),
    **columns(str, "pruned"),
}
