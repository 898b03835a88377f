"""Callbacks: the analyses during training, interventions in sequence training, and what every run needs."""

from memlight.analyses.exchange.callback import ExchangeCallback
from memlight.analyses.layermem.callback import LayerMemCallback
from memlight.analyses.probe.callback import OnlineEvaluation
from memlight.analyses.prune.callback import PruneCallback
from memlight.analyses.unitmem.callback import UnitMemCallback
from memlight.sequences.evaluation import RelearnProbe, SequenceEvaluation, Swap
from memlight.sequences.interventions import (
    DataSwitch,
    Freeze,
    Reinit,
    ResetOptimizer,
    Restore,
    Shuffle,
    Snapshot,
)

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

for _name in __all__:  # configurations and --help name a class as it is found here, wherever its file lies
    globals()[_name].__module__ = __name__
