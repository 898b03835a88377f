"""Columns of the tables of fine-tuning."""

from memlight.storage.schema import Column, Schema, claimed, columns, interval

FINETUNE_TABLE: Schema = {
    **columns(str, "arm", "layers", "rank_by"),
    **columns(int, "count", "trial", "trained_parameters"),
    **columns(float, "top1", "gain"),
}

FINETUNE_EFFECTS: Schema = {
    "arm": Column(str, "arm"),
    **columns(str, "layers", "rank_by"),
    **columns(int, "count", "trials", "trained_parameters"),
    **interval("top1", title="top-1 %", digits=2, percent=True),
    **interval("gain", title="gain, points", digits=2, percent=True),
    **interval("over_random", title="over random, points", digits=2, percent=True),
    **claimed("gain"),
    **claimed("over_random"),
}

HEAD, NAMED, RANDOM = "head", "named", "random"
"""How the layers of an arm are chosen, where it is not by a column of ``layermem/table.csv``."""


def is_ranked(rank_by: str) -> bool:
    """Whether the layers of an arm are the first of a ranking."""
    return rank_by not in (HEAD, NAMED, RANDOM)
