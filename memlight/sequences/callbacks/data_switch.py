"""A switch of the sequence set in the middle of training."""

from collections.abc import Sequence
from typing import Literal

import lightning.pytorch as L

from memlight.modules.sequence.module import SequenceModule
from memlight.sequences.callbacks.at_steps import AtSteps, sequence_module


class DataSwitch(AtSteps):
    """From a gradient step on, draw from a new sequence set.

    Args:
        at: gradient steps done at each switch; the set after the i-th is set i of the data.
        memory: keep or clear what a network with a memory holds.
        optimizer: keep or reset moments and step counts.
    """

    def __init__(
        self,
        at: Sequence[int],
        memory: Literal["keep", "clear"] = "keep",
        optimizer: Literal["keep", "reset"] = "keep",
    ) -> None:
        super().__init__(at)
        self.memory = memory
        self.optimizer = optimizer

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Tell the training when its sets change."""
        super().setup(trainer, pl_module, stage)
        sequence_module(pl_module).switch_steps = self.at

    def act(self, module: SequenceModule) -> None:
        """Clear and reset what is asked for; the block that begins here is already drawn from the new set."""
        if self.memory == "clear":
            module.network.clear()
        module.name_sequences(module.set_at(module.global_step))
        if self.optimizer == "reset":
            module.reset_optimizer()
        words = f"sequence set {module.set_at(module.global_step)}; memory: {self.memory}, optimizer: {self.optimizer}"
        module.event("data_switch", words)
