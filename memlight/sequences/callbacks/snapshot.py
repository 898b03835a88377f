"""Copies of a sequence network's weights, taken in training and put back later, for good or for one evaluation."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import lightning.pytorch as L
import torch

from memlight.data.sequences import SequenceDataModule
from memlight.errors import UserError
from memlight.modules.sequence.module import SequenceModule
from memlight.sequences.callbacks.at_steps import AtScope, AtSteps


class Snapshot(AtSteps):
    """Keep a copy of all weights; its name is the gradient step.

    Args:
        at: gradient steps done when it is taken, as those of a `DataSwitch`.
    """

    def act(self, module: SequenceModule) -> None:
        """Copy; the checkpoint keeps it."""
        module.snapshots[module.global_step] = {
            name: parameter.detach().clone() for name, parameter in module.network.named_parameters()
        }
        module.event("snapshot", "all weights")


def require_snapshot(flag: str, snapshot: int, trainer: L.Trainer) -> None:
    """Refuse a snapshot that no callback takes.

    Raises:
        UserError: lists those that are taken.
    """
    taken = sorted(
        step
        for callback in trainer.callbacks  # type: ignore[attr-defined]
        if isinstance(callback, Snapshot)
        for step in callback.at
    )
    if snapshot not in taken:
        raise UserError(f"{flag} {snapshot}: no Snapshot is taken at that step, only at {taken}.")


class Restore(AtScope):
    """Put a scope back to a snapshot, and train on from there.

    Args:
        scope: see `AtScope`.
        snapshot: gradient step of the snapshot.
        at: gradient steps done when it is put back.
    """

    def __init__(self, scope: str, snapshot: int, at: Sequence[int]) -> None:
        super().__init__(scope, at)
        self.snapshot = snapshot

    def require(self, module: SequenceModule, trainer: L.Trainer, data: SequenceDataModule) -> None:
        """Refuse a snapshot that is not taken before."""
        super().require(module, trainer, data)
        require_snapshot(self.flag("snapshot"), self.snapshot, trainer)
        if self.at[0] < self.snapshot:
            raise UserError(f"{self.flag('at')} {self.at[0]}: before the snapshot at {self.snapshot}.")

    def act(self, module: SequenceModule) -> None:
        """Copy the snapshot into the weights."""
        put_back(module, self.names(module), self.snapshot)
        module.event("restore", f"{self.scope} of step {self.snapshot}")


def put_back(module: SequenceModule, names: Sequence[str], snapshot: int) -> None:
    """Copy a snapshot's values into the named parameters."""
    with torch.no_grad():
        for name in names:
            module.network.get_parameter(name).copy_(module.snapshots[snapshot][name])


@contextmanager
def swapped_in(module: SequenceModule, names: Sequence[str], snapshot: int) -> Iterator[None]:
    """The module with a snapshot's values in the named parameters; after it they are as they were, bit for bit."""
    before = {name: module.network.get_parameter(name).detach().clone() for name in names}
    put_back(module, names, snapshot)
    try:
        yield
    finally:
        with torch.no_grad():
            for name, value in before.items():
                module.network.get_parameter(name).copy_(value)
