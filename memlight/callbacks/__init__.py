"""Callbacks: the analyses during training, interventions in sequence training, and what every run needs."""

from memlight.callbacks.controls import Reinit, ResetOptimizer, Shuffle
from memlight.callbacks.data_switch import DataSwitch
from memlight.callbacks.evaluate import OnlineEvaluation
from memlight.callbacks.exchange import ExchangeCallback
from memlight.callbacks.freeze import Freeze
from memlight.callbacks.layermem import LayerMemCallback
from memlight.callbacks.prune import PruneCallback
from memlight.callbacks.relearn import RelearnProbe
from memlight.callbacks.sequence_eval import SequenceEvaluation
from memlight.callbacks.snapshot import Restore, Snapshot
from memlight.callbacks.swap import Swap
from memlight.callbacks.unitmem import UnitMemCallback

__all__ = [
    "DataSwitch",
    "ExchangeCallback",
    "Freeze",
    "LayerMemCallback",
    "OnlineEvaluation",
    "PruneCallback",
    "Reinit",
    "RelearnProbe",
    "ResetOptimizer",
    "Restore",
    "SequenceEvaluation",
    "Shuffle",
    "Snapshot",
    "Swap",
    "UnitMemCallback",
]
