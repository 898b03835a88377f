"""Columns of the tables of sequence experiments."""

from memlight.storage.schema import Column, Schema, columns, interval

NAMES = (
    *("table", "sets", "members", "training", "positions", "ranks", "appearances"),
    *("rank_time", "learned", "forgetting", "savings", "weights", "probes", "swaps"),
)
"""Every table that `analyze.py sequence` writes; its columns stand below under the same name in capitals."""

_RUN: Schema = {"run": Column(str, "run")}
_SET: Schema = {"set": Column(int, "set")}

TABLE: Schema = {
    **_RUN,
    **columns(int, "set", "step", "since_switch"),
    **columns(bool, "trained"),
    **interval("accuracy"),
    **interval("loss"),
    **interval("test_accuracy"),
    **interval("retrieval"),
}

SETS: Schema = {
    **_RUN,
    **_SET,
    "begins": Column(int, "begins"),
    "ends": Column(int, "ends"),
    "members": Column(int, "members"),
    **interval("accuracy", title="accuracy", digits=3),
    "loss": Column(float, "nats per bit", 3),
    **columns(float, "loss_low", "loss_high"),
    "ceiling_accuracy": Column(float, "ceiling", 3),
    "ceiling_loss": Column(float, "ceiling", 3),
    **columns(float, "floor_accuracy", "floor_loss"),
    "retrieval": Column(float, "retrieval top-1", 3),
    **columns(float, "retrieval_low", "retrieval_high"),
    **interval("last_accuracy", title="accuracy at the very end", digits=3),
    "bits_per_parameter": Column(float, "bits per parameter", 2),
    **columns(float, "bits_per_parameter_low", "bits_per_parameter_high"),
}

MEMBERS: Schema = {
    **_RUN,
    **columns(int, "seed", "set"),
    **columns(float, "accuracy", "loss", "retrieval", "last_accuracy", "steps", "savings"),
}

TRAINING: Schema = {**_RUN, **columns(int, "step"), **interval("loss")}

RANKS: Schema = {
    **_RUN,
    **columns(int, "set", "rank"),
    **columns(float, "appearances"),
    **interval("accuracy"),
    **interval("loss"),
    **columns(float, "ceiling", "saturated"),
    **interval("appearances_at_saturation"),
}

APPEARANCES: Schema = {
    **_RUN,
    **columns(int, "set"),
    **columns(float, "appearances"),
    **interval("accuracy"),
    **columns(float, "sequences"),
}

RANK_TIME: Schema = {**columns(int, "set", "step", "rank_low", "rank_high"), **interval("accuracy")}

LEARNED: Schema = {**_RUN, **columns(int, "set", "step"), **interval("max_rank")}

POSITIONS: Schema = {**_RUN, **columns(int, "set", "position"), **interval("accuracy"), **columns(float, "ceiling")}

FORGETTING: Schema = {**_RUN, **columns(int, "after", "set"), **interval("accuracy"), **interval("retained")}

SAVINGS: Schema = {
    **_RUN,
    **_SET,
    **columns(int, "members", "reached"),
    **interval("steps"),
    **interval("savings", title="savings", digits=3),
    **interval("difference", title="this run's are larger by", digits=3),
}

WEIGHTS: Schema = {
    **_RUN,
    "step": Column(int, "step"),
    "measure": Column(str, "measure"),
    "value": Column(float, "mean", 3),
    **columns(float, "low", "high"),
}

PROBES: Schema = {
    **_RUN,
    "step": Column(int, "fork at step"),
    **columns(int, "members", "reached"),
    "batches": Column(float, "batches", 1),
    **columns(float, "low", "high"),
    "accuracy": Column(float, "accuracy at its end", 3),
}

SWAPS: Schema = {
    **_RUN,
    "step": Column(int, "at step"),
    "swapped": Column(str, "swapped in"),
    "set": Column(int, "tested on set"),
    **interval("accuracy", title="accuracy", digits=3),
    "before": Column(float, "without the swap", 3),
}
