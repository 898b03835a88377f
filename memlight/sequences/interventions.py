"""Interventions in sequence training, each a callback that acts at given gradient steps, between two blocks."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

import lightning.pytorch as L
import torch
from torch import Tensor

from memlight.batch import SequenceBlock
from memlight.data.sequences import SequenceDataModule
from memlight.errors import UserError, named
from memlight.modules.sequence.module import SequenceModule


def sequence_module(pl_module: L.LightningModule) -> SequenceModule:
    """The module, which must train sequences.

    Raises:
        UserError: it does not.
    """
    if not isinstance(pl_module, SequenceModule):
        name = type(pl_module).__name__
        way_out = "use SequenceDAM, SequenceAttention or SequenceGPT"
        raise UserError("model", name, "does not train sequences", way_out)
    return pl_module


class AtSteps(L.Callback, ABC):
    """Acts on the members after so many gradient steps; several callbacks act in the order of their list.

    Args:
        at: gradient steps done when it acts, from 0 to one before the last.

    Attributes:
        also_at_end: whether it may act after the last step as well.

    Raises:
        UserError: no step, or one below 0.
    """

    also_at_end: ClassVar[bool] = False

    def __init__(self, at: Sequence[int]) -> None:
        self.at = tuple(sorted(set(at)))
        if not self.at or self.at[0] < 0:
            raise UserError(self.argument("at"), list(at) or None, "give gradient steps, 0 or more")

    def argument(self, name: str) -> str:
        """How errors name one of its arguments, such as ``DataSwitch.at``: a training has several callbacks."""
        return f"{type(self).__name__}.{name}"

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Check the arguments against the training, and have it pause where this acts."""
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
            why = f"the training ends after `max_steps={last}` gradient steps"
            raise UserError(self.argument("at"), self.at[-1], why, ["choose an earlier step", "train longer"])

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: SequenceBlock, batch_idx: int
    ) -> None:
        """Act where the block begins at one of the steps."""
        if batch.start in self.at:
            self.act(sequence_module(pl_module))

    @abstractmethod
    def act(self, module: SequenceModule) -> Any:
        """Change the members, and note it as an event."""


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
        """Refuse a scope that the network does not have."""
        super().require(module, trainer, data)
        self.names(module)

    def names(self, module: SequenceModule) -> tuple[str, ...]:
        """The parameters in the scope.

        Raises:
            UserError: there is no such scope; lists those there are.
        """
        with named(scope=self.argument("scope")):
            return module.network.names_in(self.scope)


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
        index = module.set_at(module.global_step)
        if self.memory == "clear":
            module.network.clear()
        module.name_sequences(index)
        if self.optimizer == "reset":
            module.reset_optimizer()
        module.event("data_switch", f"sequence set {index}; memory: {self.memory}, optimizer: {self.optimizer}")


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
        self._frozen = copies(module, names)
        module.event("freeze", f"{self.scope} ({', '.join(names)}); optimizer: {self.optimizer}")

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Compare the frozen parameters with their copies.

        Raises:
            RuntimeError: a frozen parameter has moved.
        """
        network = sequence_module(pl_module).network
        for name, before in self._frozen.items():
            if not torch.equal(network.get_parameter(name), before.to(network.get_parameter(name).device)):
                raise RuntimeError(f"{name} is frozen, and has moved by step {trainer.global_step}")

    def state_dict(self) -> dict[str, Any]:
        """The copies of the frozen parameters."""
        return {"frozen": self._frozen}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self._frozen = state_dict["frozen"]


class Snapshot(AtSteps):
    """Keep a copy of all weights; its name is the gradient step.

    Args:
        at: gradient steps done when it is taken, as those of a `DataSwitch`.
    """

    def act(self, module: SequenceModule) -> None:
        """Copy all weights; checkpoints keep the copy."""
        module.snapshots[module.global_step] = copies(module, [name for name, _ in module.network.named_parameters()])
        module.event("snapshot", "all weights")


class AtSnapshot(AtScope, ABC):
    """Uses a scope's values of an earlier snapshot.

    Args:
        scope: see `AtScope`.
        snapshot: gradient step of the snapshot.
        at: see `AtSteps`.
    """

    def __init__(self, scope: str, snapshot: int, at: Sequence[int]) -> None:
        super().__init__(scope, at)
        self.snapshot = snapshot

    def require(self, module: SequenceModule, trainer: L.Trainer, data: SequenceDataModule) -> None:
        """Refuse a scope that the network does not have, and a snapshot that no callback takes."""
        super().require(module, trainer, data)
        callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
        taken = sorted(step for callback in callbacks if isinstance(callback, Snapshot) for step in callback.at)
        if self.snapshot not in taken:
            why = f"no Snapshot is taken at that step, only at {taken}"
            raise UserError(self.argument("snapshot"), self.snapshot, why)

    def put_back(self, module: SequenceModule) -> None:
        """Copy the snapshot's values into the scope's parameters."""
        _write(module, {name: module.snapshots[self.snapshot][name] for name in self.names(module)})

    @contextmanager
    def swapped_in(self, module: SequenceModule) -> Iterator[None]:
        """The module with the snapshot's values in the scope; after it they are as they were, bit for bit."""
        before = copies(module, self.names(module))
        self.put_back(module)
        try:
            yield
        finally:
            _write(module, before)


class Restore(AtSnapshot):
    """Put a scope back to a snapshot, and train on from there.

    Args:
        scope: see `AtScope`.
        snapshot: gradient step of the snapshot.
        at: gradient steps done when it is put back.
    """

    def require(self, module: SequenceModule, trainer: L.Trainer, data: SequenceDataModule) -> None:
        """Refuse a snapshot that is not taken before."""
        super().require(module, trainer, data)
        if self.at[0] < self.snapshot:
            raise UserError(self.argument("at"), self.at[0], f"before the snapshot at {self.snapshot}")

    def act(self, module: SequenceModule) -> None:
        """Copy the snapshot into the weights."""
        self.put_back(module)
        module.event("restore", f"{self.scope} of step {self.snapshot}")


class Reinit(AtScope):
    """Draw a scope's weights anew: a control for claims of savings, as are `Shuffle` and `ResetOptimizer`.

    Args:
        scope: see `AtScope`.
        at: gradient steps done when it is drawn.
        std: of the normal law; null takes the law of the initial weights.
        seed: another one draws other values; members differ by their own seeds.
    """

    def __init__(self, scope: str, at: Sequence[int], std: float | None = None, seed: int = 0) -> None:
        super().__init__(scope, at)
        self.std = std
        self.seed = seed

    def act(self, module: SequenceModule) -> None:
        """Draw new values."""
        module.network.reset_scope(self.scope, std=self.std, seed=self.seed)
        module.event("reinit", f"{self.scope}; std: {'initial' if self.std is None else self.std}")


class Shuffle(AtScope):
    """Permute a scope's entries, each parameter's among themselves: their distribution stays, what they say does not.

    Args:
        scope: see `AtScope`.
        at: gradient steps done when they are permuted.
        seed: another one gives other permutations; members differ by their own seeds.
    """

    def __init__(self, scope: str, at: Sequence[int], seed: int = 0) -> None:
        super().__init__(scope, at)
        self.seed = seed

    def act(self, module: SequenceModule) -> None:
        """Permute the entries."""
        module.network.shuffle_scope(self.scope, seed=self.seed)
        module.event("shuffle", self.scope)


class ResetOptimizer(AtSteps):
    """Forget the optimizer's moments and step counts, and nothing else.

    Args:
        at: gradient steps done when they are forgotten.
    """

    def act(self, module: SequenceModule) -> None:
        """Forget moments and step counts."""
        module.reset_optimizer()
        module.event("reset_optimizer", "moments and step counts")


def copies(module: SequenceModule, names: Sequence[str]) -> dict[str, Tensor]:
    """Copies of parameters of the network by name."""
    return {name: module.network.get_parameter(name).detach().clone() for name in names}


@torch.no_grad()
def _write(module: SequenceModule, values: dict[str, Tensor]) -> None:
    for name, value in values.items():
        module.network.get_parameter(name).copy_(value)
