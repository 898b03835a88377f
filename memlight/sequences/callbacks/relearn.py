"""How fast could new sequences be learned from here? A fork of the network is trained on them and thrown away."""

from collections.abc import Sequence
from copy import deepcopy

import lightning.pytorch as L
import torch

from memlight.data.sequences import SequenceDataModule
from memlight.errors import UserError
from memlight.modules.sequence.module import SequenceModule
from memlight.modules.sequence.shares import gathered
from memlight.sequences.callbacks.at_steps import AtScope
from memlight.sequences.callbacks.evaluation import evaluation_of
from memlight.sequences.measures import bayes_ceiling

PROBE_SET = 1000
"""Index of the probe's set; no training has so many switches."""


class RelearnProbe(AtScope):
    """Freeze a scope of a copy, give it a fresh optimizer and an empty memory, and count batches until the criterion.

    The copy is trained with the run's batch size and learning rate, on new sequences drawn uniformly; the training
    goes on as if there were no probe.

    Args:
        at: gradient steps done at each probe.
        scope: what of the copy is frozen.
        num_sequences: in the new set.
        criterion: accuracy over all of them that ends the probe.
        limit: the most batches; a member that has not reached the criterion by then counts as never.
        check_every: batches between two looks at the accuracy, and so the result's resolution.
    """

    def __init__(
        self,
        at: Sequence[int],
        scope: str = "c_attn",
        num_sequences: int = 1000,
        criterion: float = 0.95,
        limit: int = 1000,
        check_every: int = 10,
    ) -> None:
        super().__init__(scope, at)
        if not 0 < criterion <= 1:
            raise UserError(f"{self.flag('criterion')} {criterion}: an accuracy above 0, and at most 1.")
        for name, value in (("limit", limit), ("check_every", check_every)):
            if value < 1:
                raise UserError(f"{self.flag(name)} {value}: must be 1 or more.")
        self.num_sequences = num_sequences
        self.criterion = criterion
        self.limit = limit
        self.check_every = check_every

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Find the evaluation that keeps the results."""
        super().setup(trainer, pl_module, stage)
        self._evaluation = evaluation_of(trainer, type(self).__name__)

    def require(self, module: SequenceModule, trainer: L.Trainer, data: SequenceDataModule) -> None:
        """Refuse new sequences that cannot be, or of which nobody can know so much."""
        super().require(module, trainer, data)
        try:
            drawn = self._novel(data).set(PROBE_SET, module.network.seeds[0])
        except UserError as error:
            raise UserError(f"{self.flag('num_sequences')}: {error}") from error
        ceiling = bayes_ceiling(drawn.bits, drawn.probabilities).accuracy
        if self.criterion > ceiling:
            raise UserError(
                f"{self.flag('criterion')} {self.criterion}: who knows the {self.num_sequences} sequences predicts "
                f"{ceiling:.3f} of their bits; choose less, or fewer sequences."
            )

    def _novel(self, data: SequenceDataModule) -> SequenceDataModule:
        return SequenceDataModule(
            self.num_sequences, data.num_bits, "uniform", batch_size=data.batch_size, sets=data.sets, seed=data.seed
        )

    def act(self, module: SequenceModule) -> None:
        """Fork, train, count."""
        network, seeds = deepcopy(module.network), module.network.seeds
        network.clear()
        for name in self.names(module):
            network.get_parameter(name).requires_grad_(False)
        novel = self._novel(module.data)
        network.set_sequences(novel.bits(PROBE_SET, seeds).to(module.device))
        bits_EKN = module.as_taken(novel.bits(PROBE_SET, seeds))
        ids_ETB = novel.ids(PROBE_SET, seeds, 0, self.limit).to(module.device)
        optimizer = module.make_optimizer(network)
        needed_E = torch.full((module.members,), float("nan"))
        for done, ids_EB in enumerate(ids_ETB.unbind(1), start=1):
            module.gradient_step(network, optimizer, bits_EKN, ids_EB)
            if done % self.check_every == 0 or done == self.limit:
                accuracy_E = module.accuracy(network, bits_EKN).cpu()
                needed_E[needed_E.isnan() & (accuracy_E >= self.criterion)] = done
                if not bool(gathered(needed_E.isnan()).any()):
                    break
        self._evaluation.relearned(module, needed_E, accuracy_E)
        module.event("relearn_probe", f"{self.num_sequences} new sequences, {self.scope} frozen")
