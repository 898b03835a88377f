"""Evaluation of every sequence set so far, and the results that a run leaves."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from memlight.batch import SequenceBlock
from memlight.data.sequences import SequenceSet
from memlight.errors import UserError
from memlight.models.transformer import BitTransformer
from memlight.modules.sequence.module import SequenceModule
from memlight.modules.sequence.shares import gathered
from memlight.sequences.callbacks.at_steps import sequence_module
from memlight.sequences.measures import Ceiling, bayes_ceiling
from memlight.sequences.results import Array, SequenceResults
from memlight.storage.tables import atomic_write

MAP_SEQUENCES = 256
"""The most sequences that attention maps are averaged over."""


class SequenceEvaluation(L.Callback):
    """Measure all sequences of every set so far; nothing is remembered, nothing is trained.

    At the start, every so many gradient steps, wherever a callback acts (before it does), and at the end.

    Args:
        every: gradient steps between evaluations.

    Attributes:
        directory: where `results` are written after the last step; None writes nothing.
        args: the configuration, as the results say it.
    """

    def __init__(self, every: int) -> None:
        if every < 1:
            raise UserError(f"--trainer.callbacks SequenceEvaluation.every {every}: must be 1 or more.")
        self.every = every
        self.directory: Path | None = None
        self.args: dict[str, Any] = {}
        self._rows: list[dict[str, Any]] = []
        self._swaps: list[dict[str, Any]] = []
        self._probes: list[dict[str, Any]] = []
        self._drawn_SEK: list[Tensor] = []
        self._weights: dict[int, dict[str, Tensor]] = {}

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Pause where it is to evaluate."""
        last = int(trainer.max_steps)
        sequence_module(pl_module).pause_steps.update([*range(self.every, last, self.every), last])

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Evaluate before the first step."""
        if trainer.global_step == 0:
            self._evaluate(sequence_module(pl_module))

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: SequenceBlock, batch_idx: int
    ) -> None:
        """Count what was drawn."""
        module = sequence_module(pl_module)
        while len(self._drawn_SEK) <= batch.set_index:
            self._drawn_SEK.append(torch.zeros(module.members, module.data.num_sequences, dtype=torch.int64))
        ids = batch.ids.flatten(1).cpu()
        self._drawn_SEK[batch.set_index].scatter_add_(1, ids, torch.ones_like(ids))

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Evaluate, and keep the weights where a set ends."""
        module, step = sequence_module(pl_module), trainer.global_step
        self._evaluate(module)
        if step in (*module.switch_steps, int(trainer.max_steps)):
            self._weights[step] = weights_now(module)
            if self.directory is not None and step in module.switch_steps:
                weights = gathered(self._weights[step])
                name = f"switch_{module.switch_steps.index(step)}.safetensors"
                if trainer.is_global_zero:
                    with atomic_write(self.directory / "checkpoints" / name) as temporary:
                        save_file({name: value.contiguous() for name, value in weights.items()}, temporary)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the results."""
        if self.directory is not None:
            results = self.results(sequence_module(pl_module))
            if trainer.is_global_zero:
                results.write(self.directory)

    def _evaluate(self, module: SequenceModule) -> None:
        row: dict[str, Any] = {**module.measure(self.sets_so_far(module))}
        ranks = module.data.set(0, module.network.seeds[0]).test_ranks
        drawn = self._drawn_SEK or [torch.zeros(module.members, module.data.num_sequences, dtype=torch.int64)]
        row["test_appearances"] = torch.stack([drawn_EK[:, ranks] for drawn_EK in drawn], 1)
        row["step"] = module.global_step
        self._rows.append(row)
        for index in range(row["accuracy"].shape[1]):
            for name in ("accuracy", "loss"):
                module.log_members(f"set{index}/{name}", row[name][:, index])

    def sets_so_far(self, module: SequenceModule) -> int:
        """How many sets have been drawn from."""
        return max(1, len(self._drawn_SEK))

    def swapped(self, module: SequenceModule, name: str, measured: dict[str, Tensor]) -> None:
        """Add an evaluation with weights of another time."""
        self._swaps.append({"step": module.global_step, "name": name, **measured})

    def relearned(self, module: SequenceModule, needed_E: Tensor, accuracy_E: Tensor) -> None:
        """Add a relearning probe."""
        self._probes.append({"step": module.global_step, "needed": needed_E, "accuracy": accuracy_E})

    def state_dict(self) -> dict[str, Any]:
        """Everything measured so far, as tensors."""
        return {name: getattr(self, name) for name in ("_rows", "_swaps", "_probes", "_drawn_SEK", "_weights")}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it back."""
        for name, value in state_dict.items():
            setattr(self, name, value)

    def results(self, module: SequenceModule) -> SequenceResults:
        """What was measured so far of all members, in the form of the run's files; every process calls it."""
        data, seeds = module.data, module.seeds
        sets = self.sets_so_far(module)
        own = [[_ceiling(data.set(index, seed), module) for index in range(sets)] for seed in module.network.seeds]
        own_ceilings = [[(ceiling.accuracy, ceiling.loss) for ceiling in row] for row in own]
        rows, swaps, probes, weights, train_log, ceilings_ES2 = gathered(
            (
                self._rows,
                self._swaps,
                self._probes,
                self._weights,
                module.train_log,
                torch.tensor(own_ceilings, dtype=torch.float64),
            )
        )
        return SequenceResults(
            seeds=np.array(seeds),
            set_seeds=np.array([[data.set(index, seed).seed for index in range(sets)] for seed in seeds]),
            switch_start_iter=np.array(module.switch_steps[: sets - 1], dtype=np.int64),
            eval_steps=np.array([row["step"] for row in rows]),
            set_accuracy=_padded(rows, "accuracy", sets),
            set_loss=_padded(rows, "loss", sets),
            test_rank=data.set(0, seeds[0]).test_ranks.numpy(),
            test_accuracy=_padded(rows, "test_accuracy", sets),
            test_loss=_padded(rows, "test_loss", sets),
            test_appearances=_padded(rows, "test_appearances", sets),
            position_accuracy=_padded(rows, "position_accuracy", sets),
            train_steps=np.array([step for step, _ in train_log]),
            train_loss=np.stack([loss_E.numpy() for _, loss_E in train_log], 1),
            ceiling_accuracy=ceilings_ES2[..., 0].numpy(),
            ceiling_loss=ceilings_ES2[..., 1].numpy(),
            floor_accuracy=np.full((len(seeds), sets), 0.5),
            floor_loss=np.full((len(seeds), sets), np.log(2)),
            events=module.events,
            args=self.args,
            retrieval_top1=_padded(rows, "retrieval", sets) if "retrieval" in rows[0] else None,
            weights={step: {name: value.numpy() for name, value in named.items()} for step, named in weights.items()},
            sequences=[data.bits(index, seeds).squeeze(0).numpy() for index in range(sets)],
            relearn_steps=_steps(probes),
            relearn_needed=np.stack([one["needed"].numpy() for one in probes], 1) if probes else None,
            relearn_accuracy=np.stack([one["accuracy"].numpy() for one in probes], 1) if probes else None,
            swap_steps=_steps(swaps),
            swap_names=[one["name"] for one in swaps],
            swap_accuracy=_padded(swaps, "accuracy", sets) if swaps else None,
            swap_loss=_padded(swaps, "loss", sets) if swaps else None,
        )


def evaluation_of(trainer: L.Trainer, needed_by: str) -> SequenceEvaluation:
    """The callback that keeps the results.

    Raises:
        UserError: there is none.
    """
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, SequenceEvaluation):
            return callback
    raise UserError(f"--trainer.callbacks: {needed_by} needs a SequenceEvaluation, which keeps its results.")


@torch.no_grad()
def weights_now(module: SequenceModule) -> dict[str, Tensor]:
    """Copies of all parameters, on the CPU.

    Of a transformer also ``attention`` ``(E, layers, heads, N - 1, N - 1)``: its maps, mean over test sequences of the
    set that was trained last.
    """
    weights = {name: value.detach().cpu().clone() for name, value in module.network.named_parameters()}
    if isinstance(module.network, BitTransformer):
        drawn = module.bits(module.set_at(module.global_step - 1)).expand(module.members, -1, -1)
        weights["attention"] = module.network.attention_maps(drawn[:, ::10][:, :MAP_SEQUENCES]).cpu()
    return weights


def _padded(rows: Sequence[dict[str, Any]], name: str, sets: int) -> Array:
    """``(E, S, T, ...)`` of rows ``(E, S', ...)``, NaN where a set did not exist yet."""
    first = rows[0][name]
    padded = np.full((first.shape[0], sets, len(rows), *first.shape[2:]), np.nan, dtype=np.float32)
    for index, row in enumerate(rows):
        padded[:, : row[name].shape[1], index] = row[name].numpy()
    return padded


def _steps(rows: Sequence[dict[str, Any]]) -> Array | None:
    return np.array([row["step"] for row in rows]) if rows else None


def _ceiling(drawn: SequenceSet, module: SequenceModule) -> Ceiling:
    first = int(module.network.num_bits - module.network.counted.sum())
    return bayes_ceiling(drawn.bits.numpy(), drawn.probabilities.numpy(), first=first)
