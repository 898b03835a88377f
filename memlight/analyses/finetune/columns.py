"""Columns of the tables of fine-tuning."""

from memlight.storage.schema import Schema, columns, interval

FINETUNE_TABLE: Schema = {
    **columns(str, "arm", "layers", "rank_by"),
    **columns(int, "count", "trial", "trained_parameters"),
    **columns(float, "top1", "gain"),
}

FINETUNE_EFFECTS: Schema = {
    **columns(str, "arm", "layers", "rank_by"),
    **columns(int, "count", "trials", "trained_parameters"),
    **interval("top1"),
    **interval("gain"),
    **interval("over_random"),
}
