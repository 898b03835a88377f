"""Columns of the tables that `analyze.py sequence` writes: one place for who writes and who reads them."""

TABLE = (
    *("run", "set", "step", "since_switch", "trained", "accuracy", "accuracy_low", "accuracy_high"),
    *("loss", "loss_low", "loss_high", "test_accuracy", "test_accuracy_low", "test_accuracy_high"),
    *("retrieval", "retrieval_low", "retrieval_high"),
)
SETS = (
    *("run", "set", "begins", "ends", "members", "accuracy", "accuracy_low", "accuracy_high"),
    *("loss", "loss_low", "loss_high", "ceiling_accuracy", "ceiling_loss", "floor_accuracy", "floor_loss"),
    *("retrieval", "retrieval_low", "retrieval_high", "last_accuracy", "last_accuracy_low", "last_accuracy_high"),
    *("bits_per_parameter", "bits_per_parameter_low", "bits_per_parameter_high"),
)
MEMBERS = ("run", "seed", "set", "accuracy", "loss", "retrieval", "last_accuracy", "steps", "savings")
TRAINING = ("run", "step", "loss", "loss_low", "loss_high")
RANKS = (
    *("run", "set", "rank", "appearances", "accuracy", "accuracy_low", "accuracy_high"),
    *("loss", "loss_low", "loss_high", "ceiling"),
    *("saturated", "appearances_at_saturation", "appearances_at_saturation_low", "appearances_at_saturation_high"),
)
APPEARANCES = ("run", "set", "appearances", "accuracy", "accuracy_low", "accuracy_high", "sequences")
RANK_TIME = ("set", "step", "rank_low", "rank_high", "accuracy", "accuracy_low", "accuracy_high")
LEARNED = ("run", "set", "step", "max_rank", "max_rank_low", "max_rank_high")
POSITIONS = ("run", "set", "position", "accuracy", "accuracy_low", "accuracy_high", "ceiling")
FORGETTING = (
    *("run", "after", "set", "accuracy", "accuracy_low", "accuracy_high", "retained", "retained_low", "retained_high"),
)
SAVINGS = (
    *("run", "set", "members", "reached", "steps", "steps_low", "steps_high"),
    *("savings", "savings_low", "savings_high", "difference", "difference_low", "difference_high"),
)
WEIGHTS = ("run", "step", "measure", "value", "low", "high")
PROBES = ("run", "step", "members", "reached", "batches", "low", "high", "accuracy")
SWAPS = ("run", "step", "swapped", "set", "accuracy", "accuracy_low", "accuracy_high", "before")
