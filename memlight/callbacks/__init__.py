"""Callbacks: the analyses during training, and what every run needs."""

from memlight.callbacks.evaluate import OnlineEvaluation
from memlight.callbacks.exchange import ExchangeCallback
from memlight.callbacks.layermem import LayerMemCallback
from memlight.callbacks.prune import PruneCallback
from memlight.callbacks.unitmem import UnitMemCallback

__all__ = ["ExchangeCallback", "LayerMemCallback", "OnlineEvaluation", "PruneCallback", "UnitMemCallback"]
