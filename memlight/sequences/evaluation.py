"""Evaluation in sequence training: of every set so far, of swapped weights, of forks that learn new sequences."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from memlight.batch import SequenceBlock
from memlight.data.sequences import SequenceDataModule
from memlight.errors import UserError, named
from memlight.models.transformer import BitTransformer
from memlight.modules.sequence.module import SequenceModule
from memlight.modules.sequence.shares import gathered
from memlight.sequences.interventions import AtScope, AtSnapshot, sequence_module
from memlight.sequences.measures import bayes_ceiling
from memlight.sequences.results import Array, SequenceResults
from memlight.storage.writing import atomic_write

MAP_SEQUENCES = 256
"""The most sequences that attention maps are averaged over."""

PROBE_SET = 1000
"""Index of a probe's set; no training has so many switches."""

_BY_SET = {
    "set_accuracy": "accuracy",
    "set_loss": "loss",
    "set_loss_unweighted": "unweighted_loss",
    "test_accuracy": "test_accuracy",
    "test_loss": "test_loss",
    "test_appearances": "test_appearances",
    "position_accuracy": "position_accuracy",
    "retrieval_top1": "retrieval",
}
"""Field of the results -> what an evaluation calls it. Networks without a memory have no retrieval, and evaluations
that older versions made no loss without weights."""


@dataclass
class Measured:
    """What was measured so far of this process's members; checkpoints keep it.

    Attributes:
        rows: of each evaluation what `SequenceModule.measure` gives, ``test_appearances`` and ``step``.
        swaps: of each evaluation with weights of another time ``step``, ``name``, ``accuracy`` and ``loss``.
        probes: of each relearning probe ``step``, ``needed`` and ``accuracy``.
        drawn_SEK: for each set ``int64 (E, K)``, how often each sequence was drawn for training.
        weights: copies of the parameters by name, by gradient steps done.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    swaps: list[dict[str, Any]] = field(default_factory=list)
    probes: list[dict[str, Any]] = field(default_factory=list)
    drawn_SEK: list[Tensor] = field(default_factory=list)
    weights: dict[int, dict[str, Tensor]] = field(default_factory=dict)

    @property
    def sets(self) -> int:
        """How many sets have been drawn from; at least 1."""
        return max(1, len(self.drawn_SEK))


class SequenceEvaluation(L.Callback):
    """Measure all sequences of every set so far; nothing is remembered, nothing is trained.

    At the start, every so many gradient steps, wherever a callback acts (before it does), and at the end.

    Args:
        every: gradient steps between evaluations.

    Attributes:
        directory: where `results` are written after the last step; None writes nothing.
        args: the configuration, as the results say it.
        measured: what was measured so far.
    """

    def __init__(self, every: int) -> None:
        if every < 1:
            raise UserError("SequenceEvaluation.every", every, "must be 1 or more")
        self.every = every
        self.directory: Path | None = None
        self.args: dict[str, Any] = {}
        self.measured = Measured()

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Have the training pause where it is evaluated."""
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
        module, drawn_SEK = sequence_module(pl_module), self.measured.drawn_SEK
        while len(drawn_SEK) <= batch.set_index:
            drawn_SEK.append(torch.zeros(module.members, module.data.num_sequences, dtype=torch.int64))
        ids = batch.ids.flatten(1).cpu()
        drawn_SEK[batch.set_index].scatter_add_(1, ids, torch.ones_like(ids))

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Evaluate, and keep the weights where a set ends."""
        module, step = sequence_module(pl_module), trainer.global_step
        self._evaluate(module)
        if step not in (*module.switch_steps, int(trainer.max_steps)):
            return
        self.measured.weights[step] = weights_now(module)
        if self.directory is not None and step in module.switch_steps:
            weights = gathered(self.measured.weights[step])
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
        row: dict[str, Any] = {**module.measure(self.measured.sets)}
        ranks = module.data.set(0, module.network.seeds[0]).test_ranks
        drawn = self.measured.drawn_SEK or [torch.zeros(module.members, module.data.num_sequences, dtype=torch.int64)]
        row["test_appearances"] = torch.stack([drawn_EK[:, ranks] for drawn_EK in drawn], 1)
        row["step"] = module.global_step
        self.measured.rows.append(row)
        for index in range(row["accuracy"].shape[1]):
            for name in ("accuracy", "loss"):
                module.log_members(f"set{index}/{name}", row[name][:, index])

    def state_dict(self) -> dict[str, Any]:
        """Everything measured so far, as tensors."""
        return dict(vars(self.measured))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it back; in older checkpoints the names begin with an underscore."""
        self.measured = Measured(**{name.removeprefix("_"): value for name, value in state_dict.items()})

    def results(self, module: SequenceModule) -> SequenceResults:
        """What was measured so far of all members, in the form of the run's files; every process calls it."""
        data, seeds, sets = module.data, module.seeds, self.measured.sets
        first = int(module.network.num_bits - module.network.counted.sum())
        drawn_ES = [[data.set(index, seed) for index in range(sets)] for seed in module.network.seeds]
        ceilings_ES = [
            [bayes_ceiling(drawn.bits.numpy(), drawn.probabilities.numpy(), first=first) for drawn in of_member]
            for of_member in drawn_ES
        ]
        own_ES2 = torch.tensor(
            [[(one.accuracy, one.loss) for one in of_member] for of_member in ceilings_ES], dtype=torch.float64
        )
        every, train_log, ceilings_ES2 = gathered((vars(self.measured), module.train_log, own_ES2))
        rows, swaps, probes = every["rows"], every["swaps"], every["probes"]
        by_set: dict[str, Any] = {
            name: _padded(rows, measured, sets) for name, measured in _BY_SET.items() if measured in rows[0]
        }
        if probes:
            by_set |= {f"relearn_{name}": _stacked(probes, name) for name in ("needed", "accuracy")}
            by_set["relearn_steps"] = _steps(probes)
        if swaps:
            by_set |= {f"swap_{name}": _padded(swaps, name, sets) for name in ("accuracy", "loss")}
            by_set["swap_steps"] = _steps(swaps)
        return SequenceResults(
            **by_set,
            seeds=np.array(seeds),
            set_seeds=np.array([[data.set(index, seed).seed for index in range(sets)] for seed in seeds]),
            switch_start_iter=np.array(module.switch_steps[: sets - 1], dtype=np.int64),
            eval_steps=_steps(rows),
            test_rank=data.set(0, seeds[0]).test_ranks.numpy(),
            train_steps=np.array([step for step, _ in train_log]),
            train_loss=np.stack([loss_E.numpy() for _, loss_E in train_log], 1),
            ceiling_accuracy=ceilings_ES2[..., 0].numpy(),
            ceiling_loss=ceilings_ES2[..., 1].numpy(),
            floor_accuracy=np.full((len(seeds), sets), 0.5),
            floor_loss=np.full((len(seeds), sets), np.log(2)),
            events=module.events,
            args=self.args,
            weights={
                step: {name: value.numpy() for name, value in weights.items()}
                for step, weights in every["weights"].items()
            },
            sequences=[data.bits(index, seeds).squeeze(0).numpy() for index in range(sets)],
            swap_names=[swap["name"] for swap in swaps],
        )


def evaluation_of(trainer: L.Trainer, needed_by: str) -> SequenceEvaluation:
    """The callback that keeps the results.

    Raises:
        UserError: there is none.
    """
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, SequenceEvaluation):
            return callback
    raise UserError("trainer.callbacks", None, f"{needed_by} needs a SequenceEvaluation, which keeps its results")


class Swap(AtSnapshot):
    """Measure with a scope as it was at a snapshot, without training on: the weights are put back bit for bit.

    Args:
        scope: see `AtScope`; mlp+head gives the published "swapmlp".
        snapshot: gradient step of the snapshot.
        at: gradient steps done at each such evaluation; null after the last.
    """

    also_at_end = True

    def __init__(self, scope: str, snapshot: int, at: Sequence[int] | None = None) -> None:
        super().__init__(scope, snapshot, [0] if at is None else at)
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
        if not self.at_end and self.at[0] <= self.snapshot:
            raise UserError(self.argument("at"), self.at[0], f"must be after the snapshot at {self.snapshot}")

    def act(self, module: SequenceModule) -> None:
        """Nothing changes for what is trained next."""

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Swap in, measure, swap out; after the evaluation of the weights as they are."""
        if trainer.global_step not in self.at:
            return
        module, swaps = sequence_module(pl_module), self._evaluation.measured.swaps
        name = f"{self.scope}@{self.snapshot}"
        with self.swapped_in(module):
            measured = module.measure(self._evaluation.measured.sets)
        kept = {key: measured[key] for key in ("accuracy", "loss")}
        swaps.append({"step": module.global_step, "name": name, **kept})
        module.event("swap", f"{name}, for one evaluation")


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
            raise UserError(self.argument("criterion"), criterion, "an accuracy above 0, and at most 1")
        for name, value in (("limit", limit), ("check_every", check_every)):
            if value < 1:
                raise UserError(self.argument(name), value, "must be 1 or more")
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
        with named(num_sequences=self.argument("num_sequences")):
            drawn = self._novel(data).set(PROBE_SET, module.network.seeds[0])
        ceiling = bayes_ceiling(drawn.bits, drawn.probabilities).accuracy
        if self.criterion > ceiling:
            why = f"who knows the {self.num_sequences} sequences predicts {ceiling:.3f} of their bits"
            raise UserError(self.argument("criterion"), self.criterion, why, ["choose less", "choose fewer sequences"])

    def _novel(self, data: SequenceDataModule) -> SequenceDataModule:
        return SequenceDataModule(
            self.num_sequences, data.num_bits, "uniform", batch_size=data.batch_size, sets=data.sets, seed=data.seed
        )

    def act(self, module: SequenceModule) -> None:
        """Fork the network, train the copy, count its batches."""
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
        probe = {"step": module.global_step, "needed": needed_E, "accuracy": accuracy_E}
        self._evaluation.measured.probes.append(probe)
        module.event("relearn_probe", f"{self.num_sequences} new sequences, {self.scope} frozen")


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


def _padded(rows: Sequence[Mapping[str, Any]], name: str, sets: int) -> Array:
    """``(E, S, T, ...)`` of rows ``(E, S', ...)``, NaN where a set did not exist yet."""
    first = rows[0][name]
    padded = np.full((first.shape[0], sets, len(rows), *first.shape[2:]), np.nan, dtype=np.float32)
    for index, row in enumerate(rows):
        padded[:, : row[name].shape[1], index] = row[name].numpy()
    return padded


def _stacked(rows: Sequence[Mapping[str, Any]], name: str) -> Array:
    """``(E, P)`` of rows ``(E,)``."""
    return np.stack([row[name].numpy() for row in rows], 1)


def _steps(rows: Sequence[Mapping[str, Any]]) -> Array:
    return np.array([row["step"] for row in rows])
