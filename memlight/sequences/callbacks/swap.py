"""Evaluation with parts of an earlier network: what of the old knowledge is still in the rest?"""

from collections.abc import Sequence

import lightning.pytorch as L

from memlight.data.sequences import SequenceDataModule
from memlight.errors import UserError
from memlight.modules.sequence.module import SequenceModule
from memlight.sequences.callbacks.at_steps import AtScope, sequence_module
from memlight.sequences.callbacks.evaluation import evaluation_of
from memlight.sequences.callbacks.snapshot import require_snapshot, swapped_in


class Swap(AtScope):
    """Measure with a scope as it was at a snapshot, without training on: the weights are put back bit for bit.

    Args:
        scope: see `AtScope`; mlp+head gives the published "swapmlp".
        snapshot: gradient step of the snapshot.
        at: gradient steps done at each such evaluation; null after the last.
    """

    also_at_end = True

    def __init__(self, scope: str, snapshot: int, at: Sequence[int] | None = None) -> None:
        super().__init__(scope, [0] if at is None else at)
        self.snapshot = snapshot
        self.at_end = at is None

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Find the evaluation that keeps the results."""
        if self.at_end:
            self.at = (int(trainer.max_steps),)
        super().setup(trainer, pl_module, stage)
        self._evaluation = evaluation_of(trainer, type(self).__name__)

    def require(self, module: SequenceModule, trainer: L.Trainer, data: SequenceDataModule) -> None:
        """Refuse a scope or a snapshot that does not exist."""
        super().require(module, trainer, data)
        require_snapshot(self.flag("snapshot"), self.snapshot, trainer)
        if not self.at_end and self.at[0] <= self.snapshot:
            raise UserError(f"{self.flag('at')} {self.at[0]}: must be after the snapshot at {self.snapshot}.")

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Measure, after the evaluation of the weights as they are."""
        if trainer.global_step in self.at:
            self.measure(sequence_module(pl_module))

    def act(self, module: SequenceModule) -> None:
        """Nothing changes for what is trained next."""

    def measure(self, module: SequenceModule) -> None:
        """Swap in, measure, swap out."""
        with swapped_in(module, self.names(module), self.snapshot):
            measured = module.measure(self._evaluation.sets_so_far(module))
        name = f"{self.scope}@{self.snapshot}"
        self._evaluation.swapped(module, name, {key: measured[key] for key in ("accuracy", "loss")})
        module.event("swap", f"{name}, for one evaluation")
