"""Callbacks: the analyses during training, interventions in sequence training, and what every run needs."""

from memlight.analyses.exchange.callback import ExchangeCallback
from memlight.analyses.layermem.callback import LayerMemCallback
from memlight.analyses.probe.callback import OnlineEvaluation
from memlight.analyses.prune.callback import PruneCallback
from memlight.analyses.unitmem.callback import UnitMemCallback
from memlight.sequences.callbacks.controls import Reinit, ResetOptimizer, Shuffle
from memlight.sequences.callbacks.data_switch import DataSwitch
from memlight.sequences.callbacks.evaluation import SequenceEvaluation
from memlight.sequences.callbacks.freeze import Freeze
from memlight.sequences.callbacks.relearn import RelearnProbe
from memlight.sequences.callbacks.snapshot import Restore, Snapshot
from memlight.sequences.callbacks.swap import Swap

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
