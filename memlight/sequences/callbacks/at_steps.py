"""What the interventions in sequence training share: they act at gradient steps, between two blocks."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import lightning.pytorch as L

from memlight.batch import SequenceBlock
from memlight.data.sequences import SequenceDataModule
from memlight.errors import UserError
from memlight.modules.sequence.module import SequenceModule


def sequence_module(pl_module: L.LightningModule) -> SequenceModule:
    """The module, which must train sequences.

    Raises:
        UserError: it does not.
    """
    if not isinstance(pl_module, SequenceModule):
        name = type(pl_module).__name__
        raise UserError(f"--model {name}: does not train sequences; use SequenceDAM, SequenceAttention or SequenceGPT.")
    return pl_module


class AtSteps(L.Callback, ABC):
    """Acts on the members after so many gradient steps; several act in the order of --trainer.callbacks.

    Args:
        at: gradient steps done when it acts, from 0 to one before the last.

    Attributes:
        also_at_end: it makes sense after the last step as well.

    Raises:
        UserError: no step, or one below 0.
    """

    also_at_end: ClassVar[bool] = False

    def __init__(self, at: Sequence[int]) -> None:
        self.at = tuple(sorted(set(at)))
        if not self.at or self.at[0] < 0:
            raise UserError(f"{self.flag('at')} {list(at)}: give gradient steps, 0 or more.")

    def flag(self, argument: str) -> str:
        """How an argument is called in an error."""
        return f"--trainer.callbacks {type(self).__name__}.{argument}"

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Check what is asked for against the training, and pause it there."""
        module = sequence_module(pl_module)
        self.require(module, trainer, module.data)
        module.pause_steps.update(self.at)

    def require(self, module: SequenceModule, trainer: L.Trainer, data: SequenceDataModule) -> None:
        """Refuse what cannot work, before the first step.

        Raises:
            UserError: a step after the last.
        """
        last = int(trainer.max_steps)
        trial = bool(trainer.fast_dev_run)  # type: ignore[attr-defined]
        if not trial and last >= 0 and self.at[-1] >= last + self.also_at_end:
            raise UserError(
                f"{self.flag('at')} {self.at[-1]}: the training ends after --trainer.max_steps {last} gradient steps; "
                "choose an earlier step, or train longer."
            )

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: SequenceBlock, batch_idx: int
    ) -> None:
        """Act where the block begins at one of the steps."""
        if batch.start in self.at:
            self.act(sequence_module(pl_module))

    @abstractmethod
    def act(self, module: SequenceModule) -> Any:
        """Do it."""


class AtScope(AtSteps, ABC):
    """Acts on a named part of the network.

    Args:
        scope: a scope of the network, or several joined by ``+``.
        at: see `AtSteps`.
    """

    def __init__(self, scope: str, at: Sequence[int]) -> None:
        super().__init__(at)
        self.scope = scope

    def require(self, module: SequenceModule, trainer: L.Trainer, data: SequenceDataModule) -> None:
        """Refuse a scope that the network does not have; lists those there are."""
        super().require(module, trainer, data)
        self.names(module)

    def names(self, module: SequenceModule) -> tuple[str, ...]:
        """The parameters in the scope.

        Raises:
            UserError: there is no such scope.
        """
        try:
            return module.network.names_in(self.scope)
        except UserError as error:
            raise UserError(f"{self.flag('scope')}: {error}") from error
