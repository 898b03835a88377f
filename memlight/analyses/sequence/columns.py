"""Columns of the tables of sequence experiments."""

from memlight.storage.schema import Schema, columns, interval

TABLE: Schema = {
    **columns(str, "run"),
    **columns(int, "set", "step", "since_switch"),
    **columns(bool, "trained"),
    **interval("accuracy"),
    **interval("loss"),
    **interval("test_accuracy"),
    **interval("retrieval"),
}

SETS: Schema = {
    **columns(str, "run"),
    **columns(int, "set", "begins", "ends", "members"),
    **interval("accuracy"),
    **interval("loss"),
    **columns(float, "ceiling_accuracy", "ceiling_loss", "floor_accuracy", "floor_loss"),
    **interval("retrieval"),
    **interval("last_accuracy"),
    **interval("bits_per_parameter"),
}

MEMBERS: Schema = {
    **columns(str, "run"),
    **columns(int, "seed", "set"),
    **columns(float, "accuracy", "loss", "retrieval", "last_accuracy", "steps", "savings"),
}

TRAINING: Schema = {
    **columns(str, "run"),
    **columns(int, "step"),
    **interval("loss"),
}

RANKS: Schema = {
    **columns(str, "run"),
    **columns(int, "set", "rank", "appearances"),
    **interval("accuracy"),
    **interval("loss"),
    **columns(float, "ceiling"),
    **columns(bool, "saturated"),
    **interval("appearances_at_saturation"),
}

APPEARANCES: Schema = {
    **columns(str, "run"),
    **columns(int, "set", "appearances"),
    **interval("accuracy"),
    **columns(int, "sequences"),
}

RANK_TIME: Schema = {
    **columns(int, "set", "step", "rank_low", "rank_high"),
    **interval("accuracy"),
}

LEARNED: Schema = {
    **columns(str, "run"),
    **columns(int, "set", "step"),
    **interval("max_rank"),
}

POSITIONS: Schema = {
    **columns(str, "run"),
    **columns(int, "set", "position"),
    **interval("accuracy"),
    **columns(float, "ceiling"),
}

FORGETTING: Schema = {
    **columns(str, "run"),
    **columns(int, "after", "set"),
    **interval("accuracy"),
    **interval("retained"),
}

SAVINGS: Schema = {
    **columns(str, "run"),
    **columns(int, "set", "members"),
    **columns(float, "reached"),
    **interval("steps"),
    **interval("savings"),
    **interval("difference"),
}

WEIGHTS: Schema = {
    **columns(str, "run"),
    **columns(int, "step"),
    **columns(str, "measure"),
    **columns(float, "value", "low", "high"),
}

PROBES: Schema = {
    **columns(str, "run"),
    **columns(int, "step", "members"),
    **columns(float, "reached", "batches", "low", "high", "accuracy"),
}

SWAPS: Schema = {
    **columns(str, "run"),
    **columns(int, "step"),
    **columns(str, "swapped"),
    **columns(int, "set"),
    **interval("accuracy"),
    **columns(float, "before"),
}
