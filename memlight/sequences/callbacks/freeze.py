"""Freezing parts of a sequence network."""

from collections.abc import Sequence
from typing import Any, Literal

import lightning.pytorch as L
import torch
from torch import Tensor

from memlight.modules.sequence.module import SequenceModule
from memlight.sequences.callbacks.at_steps import AtScope, sequence_module


class Freeze(AtScope):
    """Train a scope no further: no gradient, in no optimizer group; at every pause its bits are compared.

    Args:
        scope: see `AtScope`.
        at: gradient steps done when it freezes; 0 from the beginning.
        optimizer: keep or reset the moments of what is still trained.
    """

    def __init__(self, scope: str, at: Sequence[int], optimizer: Literal["keep", "reset"] = "keep") -> None:
        super().__init__(scope, at)
        self.optimizer = optimizer
        self._frozen: dict[str, Tensor] = {}

    @property
    def state_key(self) -> str:
        """Tells several of these apart in a checkpoint."""
        return f"{type(self).__qualname__}[{self.scope}, {self.at}]"

    def act(self, module: SequenceModule) -> None:
        """Freeze, and keep a copy to compare with."""
        names = self.names(module)
        module.freeze_named(names)
        if self.optimizer == "reset":
            module.reset_optimizer()
        self._frozen = {name: module.network.get_parameter(name).detach().clone() for name in names}
        module.event("freeze", f"{self.scope} ({', '.join(names)}); optimizer: {self.optimizer}")

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Compare.

        Raises:
            RuntimeError: a frozen parameter has moved.
        """
        network = sequence_module(pl_module).network
        for name, before in self._frozen.items():
            if not torch.equal(network.get_parameter(name), before.to(network.get_parameter(name).device)):
                raise RuntimeError(f"{name} is frozen, and has moved by step {trainer.global_step}")

    def state_dict(self) -> dict[str, Any]:
        """The copies."""
        return {"frozen": self._frozen}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take them back."""
        self._frozen = state_dict["frozen"]
