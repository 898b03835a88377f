"""Training of E members of a sequence network at once, exact to the gradient step."""

from abc import ABC
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as L
import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer

from memlight.batch import SequenceBlock
from memlight.dist import world_size
from memlight.errors import UserError, at_least, below_one, positive
from memlight.models.sequence_model import SequenceModel
from memlight.modules.optim import keep_options
from memlight.modules.sequence.shares import gathered, own_share, require_independent, taken
from memlight.storage.torch_files import read_torch

OptimizerName = Literal["adam", "adamw", "sgd"]

STATE_KEY = "memlight_sequence"
"""Where a checkpoint keeps what is neither a weight nor a callback's."""

ROWS_OF_LOGITS = 2**16
"""How many sequences times members times bits are read at once; a memory holds hundreds of scores for each."""

_FOREIGN = ("not a checkpoint of a sequence training", "give one of train.py fit")

_DATA = ("num_sequences", "num_bits", "law", "exponent", "distinct", "batch_size", "sets", "seed")
"""What of the data decides which sequences are drawn."""


class SequenceModule(L.LightningModule, ABC):
    """Trains the members of a network, each on batches of its own, with one optimizer whose update is elementwise.

    One `training_step` is a block of gradient steps; Lightning's ``global_step`` counts the gradient steps, and an
    epoch lasts until the next step at which a callback acts (`pause_steps`). The order of a step: predict the batch
    from the old memory, loss, update, remember the batch. Of several processes each trains a share of the members.

    Args:
        network: what is trained; its replica axis is the members'.
        learning_rate: constant.
        optimizer: adam, adamw, or sgd with `momentum`.
        weight_decay: on every weight; of adam as an L2 penalty, of adamw decoupled.
        momentum: of sgd.
        block_steps: the most gradient steps of one block; moves no number.

    Attributes:
        seeds: of all members; ``network.seeds`` are those of this process's.
        frozen: names of the network's parameters that are not trained.
        snapshots: copies of the network's parameters by the gradient steps done when they were taken.
        events: what was done to the members, each with ``step``, ``kind`` and ``words``.
        pause_steps: gradient steps at which a callback acts, and so an epoch ends.
        switch_steps: gradient steps at which the next sequence set begins.
        latest: mean over members of what was logged last, by name.
        train_log: gradient steps done and ``(E,)`` mean loss since the entry before.
    """

    def __init__(
        self,
        network: SequenceModel,
        learning_rate: float = 1e-3,
        optimizer: OptimizerName = "adam",
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        block_steps: int = 100,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        positive(learning_rate=learning_rate)
        at_least(0, weight_decay=weight_decay)
        at_least(1, block_steps=block_steps)
        below_one(momentum=momentum)
        self.network = network
        self.seeds = network.seeds
        self.learning_rate = learning_rate
        self.optimizer_name = optimizer
        self.weight_decay = weight_decay
        self.momentum = momentum
        self.block_steps = block_steps
        self.frozen: set[str] = set()
        self.snapshots: dict[int, dict[str, Tensor]] = {}
        self.events: list[dict[str, Any]] = []
        self.pause_steps: set[int] = set()
        self.switch_steps: tuple[int, ...] = ()
        self.train_log: list[tuple[int, Tensor]] = []
        self.latest: dict[str, float] = {}
        self._loss_sum_E: Tensor | None = None
        self._loss_steps = 0
        self._bits: dict[int, Tensor] = {}

    @property
    def members(self) -> int:
        """How many are trained together in this process."""
        return len(self.network.seeds)

    @property
    def data(self) -> Any:
        """The `SequenceDataModule` it is trained with."""
        return self.trainer.datamodule  # type: ignore[attr-defined]

    def identity(self, data: Any) -> dict[str, Any]:
        """What tells a training's members and sequences apart from others, by flag of train.py."""
        of_data = {f"data.{name}": getattr(data, name) for name in _DATA}
        return {"model.init_seed": self.seeds[0], "model.replicas": len(self.seeds), **of_data}

    def require_identity(self, saved: dict[str, Any], data: Any) -> None:
        """Refuse a checkpoint of other sequences or members.

        Args:
            saved: the `identity` of the training that wrote it.
            data: the `SequenceDataModule` that is trained with.

        Raises:
            UserError: names the first flag that differs.
        """
        for name, now in self.identity(data).items():
            if saved.get(name) != now:
                why = f"the checkpoint was trained with {saved.get(name)}"
                raise UserError(name.rpartition(".")[2], now, why, ["give that", "choose another `run`"])

    def setup(self, stage: str) -> None:
        """Keep this process's share of the members, and say where the data are to be cut."""
        self.require_bits(self.data.num_bits)
        require_independent(self.trainer.strategy)
        if world_size() > 1 and self.members == len(self.seeds):
            self.network.keep_members(own_share(self.members))
        self.data.pace(self.block_bounds, self.network.seeds)

    def require_bits(self, num_bits: int) -> None:
        """Refuse sequences of another length than the network's, before training.

        Raises:
            UserError: they differ.
        """
        if self.network.num_bits != num_bits:
            why = f"the sequences have `data.num_bits={num_bits}`"
            raise UserError("model.num_bits", self.network.num_bits, why, "leave the former out")

    def bits(self, set_index: int) -> Tensor:
        """``int8 (E or 1, K, N)`` of a set as the network takes them, on the device."""
        if set_index not in self._bits:
            self._bits[set_index] = self.as_taken(self.data.bits(set_index, self.network.seeds))
        return self._bits[set_index]

    def as_taken(self, bits: Tensor) -> Tensor:
        """0 and 1 as the network takes them, on the device: ``int8``, -1 and +1 where it is signed."""
        bits = bits.to(self.device, torch.int8)
        return bits * 2 - 1 if self.network.signed else bits

    def set_at(self, step: int) -> int:
        """Index of the set that the gradient step after ``step`` draws from."""
        return bisect_right(self.switch_steps, step)

    def block_bounds(self) -> Iterator[tuple[int, int, int]]:
        """``(start, stop, set index)`` of the blocks from here to the end of the epoch."""
        start, last = self.global_step, int(self.trainer.max_steps)
        end = min([step for step in self.pause_steps if step > start] + [last])
        every = int(self.trainer.log_every_n_steps)  # type: ignore[attr-defined]
        while start < end:
            stop = min(end, start + self.block_steps, start - start % every + every)
            yield start, stop, self.set_at(start)
            start = stop

    def training_step(self, batch: SequenceBlock, batch_idx: int) -> None:
        """One block of gradient steps."""
        bits_EKN, optimizer = self.bits(batch.set_index), self.raw_optimizer
        if self._loss_sum_E is None:
            self._loss_sum_E = torch.zeros(self.members)
        self._loss_sum_E = self._loss_sum_E.to(self.device)
        for ids_EB in batch.ids.unbind(1):
            self._loss_sum_E += self.gradient_step(self.network, optimizer, bits_EKN, ids_EB)
        self._loss_steps += batch.stop - batch.start
        self._count(batch.stop - batch.start)

    def gradient_step(self, network: SequenceModel, optimizer: Optimizer, bits_EKN: Tensor, ids_EB: Tensor) -> Tensor:
        """Predict a batch from the old memory, loss, update, remember the batch.

        Returns:
            ``(E,)`` the loss before the update.
        """
        bits_EBN = bits_EKN[torch.arange(len(bits_EKN), device=self.device)[:, None], ids_EB]
        trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
        with torch.set_grad_enabled(bool(trained)):
            loss_E = network.loss(bits_EBN)
        if trained:
            gradients = torch.autograd.grad(loss_E.sum(), trained, allow_unused=True)
            for parameter, gradient in zip(trained, gradients, strict=True):
                # The fused optimizers read gradients as if they lay in memory as the parameters do.
                parameter.grad = None if gradient is None else gradient.contiguous()
            optimizer.step()
        network.remember(bits_EBN, ids_EB)
        return loss_E.detach()

    def accuracy(self, network: SequenceModel, bits_EKN: Tensor) -> Tensor:
        """``(E,)`` share of the counted bits of sequences that members predict; nothing is remembered."""
        right_EKN, _ = right_and_loss(network, bits_EKN.expand(self.members, -1, -1))
        return right_EKN[..., network.counted.to(self.device)].double().mean((1, 2))

    @torch.no_grad()
    def measure(self, sets: int) -> dict[str, Tensor]:
        """Accuracy and loss of the members on every sequence of the first S sets; memory and weights stay.

        Returns:
            On the CPU: ``accuracy`` and ``loss`` ``(E, S)`` weighted as sequences are drawn; ``position_accuracy``
            ``(E, S, N)``, the same by position; ``unweighted_loss`` ``(E, S)``, every sequence counting alike;
            ``test_accuracy`` and ``test_loss`` ``(E, S, R)`` of the test ranks; ``retrieval`` ``(E, S)`` of networks
            that have it.
        """
        first = self.data.set(0, self.network.seeds[0])
        p_K, ranks_R = first.probabilities.to(self.device), first.test_ranks
        counted_N = self.network.counted.to(self.device)
        retrieval_top1 = getattr(self.network, "retrieval_top1", None)
        columns: dict[str, list[Tensor]] = {}
        for index in range(sets):
            bits_EKN = self.bits(index).expand(self.members, -1, -1)
            right_EKN, loss_EKN = right_and_loss(self.network, bits_EKN)
            right_EK = right_EKN[..., counted_N].double().mean(-1)
            loss_EK = loss_EKN[..., counted_N].double().mean(-1)
            measured = {
                "accuracy": right_EK @ p_K,
                "loss": loss_EK @ p_K,
                "unweighted_loss": loss_EK.mean(1),
                "position_accuracy": torch.einsum("ekn,k->en", right_EKN.double(), p_K),
                "test_accuracy": right_EK[:, ranks_R],
                "test_loss": loss_EK[:, ranks_R],
            }
            if retrieval_top1 is not None:
                measured["retrieval"] = retrieval_top1(bits_EKN)
            for name, value in measured.items():
                columns.setdefault(name, []).append(value.cpu())
        return {name: torch.stack(values, 1) for name, values in columns.items()}

    def on_train_start(self) -> None:
        """Name the sequences of the set that is trained, which a network with a memory then knows by their rows."""
        self.name_sequences(self.set_at(self.global_step))

    def name_sequences(self, set_index: int) -> None:
        """Tell the network which set the rows of coming batches are of."""
        self.network.set_sequences(self.data.bits(set_index, self.network.seeds).to(self.device))

    def on_train_batch_end(self, outputs: Any, batch: SequenceBlock, batch_idx: int) -> None:
        """Every ``log_every_n_steps`` of the Trainer, and at the end, log the loss since the last time.

        Raises:
            UserError: a member's is not a number.
        """
        every, last = int(self.trainer.log_every_n_steps), int(self.trainer.max_steps)  # type: ignore[attr-defined]
        if batch.stop % every and batch.stop != last:
            return
        assert self._loss_sum_E is not None
        mean_E = (self._loss_sum_E / self._loss_steps).cpu()
        self._loss_sum_E, self._loss_steps = None, 0
        finite_E = gathered(mean_E.isfinite())
        if not bool(finite_E.all()):
            lost = [self.seeds[index] for index in (~finite_E).nonzero().flatten().tolist()]
            why = f"the loss of seeds {lost} is not a number at step {batch.stop}"
            way_out = "lower it. The checkpoint of the last evaluation is kept"
            raise UserError("learning_rate", self.learning_rate, why, way_out)
        self.train_log.append((batch.stop, mean_E))
        self.log_members("train/loss", mean_E)

    @property
    def raw_optimizer(self) -> Optimizer:
        """The optimizer without Lightning's wrapper, which costs more than a step of a small network."""
        optimizer = self.optimizers(use_pl_optimizer=False)
        assert isinstance(optimizer, Optimizer)
        return optimizer

    def _count(self, steps: int) -> None:
        """Tell Lightning how many gradient steps were done.

        Its wrapper of the optimizer counts them one at a time, and costs more than a step of a small network. There is
        no public way to count without it: these are the counters behind ``global_step`` in Lightning 2.

        Raises:
            RuntimeError: this version of Lightning counts elsewhere.
        """
        expected = self.global_step + steps
        progress = self.trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress
        for _ in range(steps):
            progress.increment_ready()
            progress.increment_completed()
        if self.global_step != expected:
            raise RuntimeError("this version of Lightning counts gradient steps in another place; use Lightning 2.6")

    def freeze_named(self, names: Iterable[str]) -> None:
        """Take parameters out of training: no gradient, in no optimizer group, no state.

        Args:
            names: of the network's parameters.
        """
        self.frozen |= set(names)
        self._leave_out_frozen(self.raw_optimizer)

    def _leave_out_frozen(self, optimizer: Optimizer) -> None:
        for name, parameter in self.network.named_parameters():
            if name in self.frozen:
                parameter.requires_grad_(False)
                parameter.grad = None
                optimizer.state.pop(parameter, None)
        for group in optimizer.param_groups:
            group["params"] = [parameter for parameter in group["params"] if parameter.requires_grad]

    def reset_optimizer(self) -> None:
        """Forget moments and step counts, as if the optimizer were made now."""
        self.raw_optimizer.state.clear()

    def event(self, kind: str, words: str) -> None:
        """Note what is done to the members now, in the results and as ``event/<kind>`` in the logs."""
        self.events.append({"step": self.global_step, "kind": kind, "words": words})
        count = sum(event["kind"] == kind for event in self.events)
        self.log_now({f"event/{kind}": float(count)})

    def log_members(self, name: str, values_E: Tensor) -> None:
        """Log the mean over all processes' members as ``<name>``, and each member's as ``<name>/seed<its seed>``."""
        values_E = gathered(values_E)
        members = zip(self.seeds, values_E.tolist(), strict=True)
        self.latest[name] = float(values_E.mean())
        self.log_now({name: self.latest[name], **{f"{name}/seed{seed}": value for seed, value in members}})

    def log_now(self, metrics: dict[str, float]) -> None:
        """Log under the gradient step, without Lightning's averages over an epoch."""
        for logger in self.loggers:
            logger.log_metrics(metrics, step=self.global_step)

    def make_optimizer(self, network: SequenceModel) -> Optimizer:
        """A fresh optimizer of all weights of a network: elementwise, so that members are trained as if alone.

        It is fused: one pass over each weight, which reads a gradient as if it lay in memory as its weight does.
        """
        kinds: dict[OptimizerName, Callable[..., Optimizer]] = {
            "adam": Adam,
            "adamw": AdamW,
            "sgd": partial(SGD, momentum=self.momentum),
        }
        make, decay = kinds[self.optimizer_name], self.weight_decay
        return make(network.parameters(), lr=self.learning_rate, weight_decay=decay, fused=True)

    def configure_optimizers(self) -> Optimizer:
        """Over what is not frozen; of a checkpoint it takes the moments, and keeps its own rates."""
        optimizer = self.make_optimizer(self.network)
        self._leave_out_frozen(optimizer)
        keep_options(optimizer)
        return optimizer

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what is neither a weight nor a callback's, and make it a checkpoint of all members."""
        checkpoint[STATE_KEY] = {
            "identity": self.identity(self.data),
            "frozen": sorted(self.frozen),
            "snapshots": self.snapshots,
            "events": self.events,
            "train_log": self.train_log,
            "loss_sum": self._loss_sum_E,
            "loss_steps": self._loss_steps,
        }
        checkpoint.update(gathered(checkpoint))

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take back what is this process's members'; called before the optimizer is made.

        Raises:
            UserError: the checkpoint is of other sequences or members.
        """
        if STATE_KEY not in checkpoint:
            raise UserError("ckpt_path", None, *_FOREIGN)
        self.require_identity(checkpoint[STATE_KEY]["identity"], self.data)
        if world_size() > 1:
            checkpoint.update(taken(own_share(len(self.seeds)), checkpoint))
        _complete_epoch(checkpoint)
        state = checkpoint[STATE_KEY]
        self.frozen = set(state["frozen"])
        self.snapshots, self.events = state["snapshots"], state["events"]
        self.train_log = [(step, loss_E) for step, loss_E in state["train_log"]]
        self._loss_sum_E, self._loss_steps = state["loss_sum"], state["loss_steps"]


def _complete_epoch(checkpoint: dict[str, Any]) -> None:
    """Count the epoch that ended with a checkpoint as completed.

    Lightning does so itself where epochs are counted; where steps are, a training that goes on would be an epoch behind
    one that was never interrupted.
    """
    progress = checkpoint["loops"]["fit_loop"]["epoch_progress"]
    for counts in progress.values():
        counts["completed"] = counts["processed"]


@torch.no_grad()
def right_and_loss(network: SequenceModel, bits_EKN: Tensor) -> tuple[Tensor, Tensor]:
    """Read sequences without remembering them.

    Args:
        network: E members.
        bits_EKN: ``(E, K, N)`` as the network takes them.

    Returns:
        ``bool (E, K, N)`` whether each bit is predicted (an even chance counts as 0), ``float32 (E, K, N)`` its loss in
        nats.
    """
    members, _, length = bits_EKN.shape
    chunks = torch.split(bits_EKN, max(1, ROWS_OF_LOGITS // (members * length)), dim=1)
    answers = [(network.logits(bits), bits > 0) for bits in chunks]
    right = [(logits > 0) == one for logits, one in answers]
    loss = [torch.nn.functional.softplus(torch.where(one, -logits, logits).float()) for logits, one in answers]
    return torch.cat(right, 1), torch.cat(loss, 1)


def read_sequence_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint of a sequence training, on the CPU; only tensors and plain values in it are read.

    Raises:
        UserError: it is missing, broken or another's.
    """
    checkpoint = read_torch(path, "ckpt_path", ["give another one"])
    if not isinstance(checkpoint, dict) or STATE_KEY not in checkpoint:
        raise UserError("ckpt_path", path, *_FOREIGN)
    return checkpoint
