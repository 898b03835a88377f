"""Members trained together, against one Lightning run after the other, in replica-steps a second.

    python benchmarks/sequence.py --cases small one        # one CPU core: two minutes
    python benchmarks/sequence.py --cases published --members 1 16
    python benchmarks/sequence.py --device cuda --members 1 16 64 256

The other way is what one writes first: a LightningModule with automatic optimization, a DataLoader that gives one batch
a step, one network; E of them one after the other take E times as long, so one is timed. Both sides train the same
networks on the same batches, which is checked. What is saved is Lightning's work for every step and the launch of small
kernels: much for small networks, little where one step's arithmetic is milliseconds. Expected on one CPU core, E = 16
and 256: 20x and 69x for the small DAM, 14x and 26x for the attention layer; 1.4x for the published DAM at E = 16.
"""

import argparse
import time
from collections.abc import Callable

import lightning.pytorch as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from memlight.data.sequences import SequenceDataModule
from memlight.models.sequence_model import SequenceModel
from memlight.modules import SequenceAttention, SequenceDAM
from memlight.modules.sequence.module import SequenceModule
from memlight.training.fit import silence

Make = Callable[[int], SequenceModule]

CASES: dict[str, tuple[SequenceDataModule, Make]] = {
    "small DAM (K=50 N=16 M=300 B=10 H=1)": (
        SequenceDataModule(50, 16, batch_size=10),
        lambda members: SequenceDAM(16, 1, 300, replicas=members),
    ),
    "published DAM (K=500 N=50 M=3000 B=50 H=30)": (
        SequenceDataModule(500, 50, batch_size=50),
        lambda members: SequenceDAM(50, 30, 3000, replicas=members),
    ),
    "one-layer attention (K=500 N=16 B=8 D=16)": (
        SequenceDataModule(500, 16, law="zipf", batch_size=8),
        lambda members: SequenceAttention(16, 1, 16, replicas=members),
    ),
}


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--members", type=int, nargs="+", default=[1, 16, 64, 256])
    parser.add_argument("--seconds", type=float, default=4.0, help="roughly how long each training takes")
    parser.add_argument("--cases", nargs="+", default=list(CASES), help="names, or their beginnings")
    return parser.parse_args()


class OneAtATime(L.LightningModule):
    """One network as one trains it without members."""

    def __init__(self, network: SequenceModel, table_KN: Tensor, learning_rate: float) -> None:
        super().__init__()
        self.network = network
        self.learning_rate = learning_rate
        self.register_buffer("table_KN", table_KN)

    def training_step(self, ids_B: Tensor, batch_idx: int) -> Tensor:
        """Loss of one batch."""
        loss_E = self.network.loss(self.table_KN[None, ids_B])
        self.log("train/loss", loss_E[0])
        return loss_E.sum()

    def on_train_batch_end(self, outputs: object, ids_B: Tensor, batch_idx: int) -> None:
        """Remember it."""
        self.network.remember(self.table_KN[None, ids_B], ids_B[None])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam."""
        return torch.optim.Adam(self.network.parameters(), lr=self.learning_rate, fused=True)


class Clock(L.Callback):
    """Seconds of the steps after the first ones, which warm up."""

    def __init__(self, device: str, warm_up: int) -> None:
        self.device, self.warm_up = device, warm_up
        self._began: tuple[int, float] | None = None

    def on_train_batch_end(self, trainer: L.Trainer, *args: object) -> None:
        """Start after the warm-up; the last call counts."""
        if self.device != "cpu":
            torch.cuda.synchronize()
        if self._began is None and trainer.global_step >= self.warm_up:
            self._began = trainer.global_step, time.process_time() if self.device == "cpu" else time.perf_counter()
        elif self._began is not None:
            now = time.process_time() if self.device == "cpu" else time.perf_counter()
            self.seconds_per_step = (now - self._began[1]) / (trainer.global_step - self._began[0])


def fit(module: L.LightningModule, data: object, steps: int, device: str) -> float:
    """Seconds a gradient step."""
    clock = Clock(device, steps // 4)
    trainer = L.Trainer(
        accelerator="cpu" if device == "cpu" else "gpu",
        devices=1,
        max_epochs=-1,
        max_steps=steps,
        log_every_n_steps=10,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[clock],
    )
    if isinstance(data, SequenceDataModule):
        trainer.fit(module, datamodule=data)
    else:
        trainer.fit(module, data)
    return clock.seconds_per_step


def alone(data: SequenceDataModule, make: Make, steps: int, device: str) -> tuple[float, Tensor]:
    """Seconds a step of one plain Lightning run, and its first weights."""
    module = make(1)
    network = module.network.to(device)
    bits = data.bits(0, network.seeds)
    network.set_sequences(bits.to(device))
    table_KN = bits[0].to(torch.int8) * 2 - 1 if network.signed else bits[0].to(torch.int8)
    batches = data.ids(0, network.seeds, 0, steps)[0]
    plain = OneAtATime(network, table_KN, module.learning_rate)
    seconds = fit(plain, DataLoader(list(batches.unbind(0)), batch_size=None), steps, device)
    return seconds, first_weights(network)


def together(data: SequenceDataModule, make: Make, members: int, steps: int, device: str) -> tuple[float, Tensor]:
    """Seconds a step of all members, and the first one's first weights."""
    module = make(members)
    seconds = fit(module, data, steps, device)
    return seconds, first_weights(module.network)


def first_weights(network: SequenceModel) -> Tensor:
    """Of the first member."""
    return next(network.parameters())[0].detach().cpu()


def main() -> None:
    """Print the table."""
    options = arguments()
    silence()
    torch.set_num_threads(1 if options.device == "cpu" else torch.get_num_threads())
    for name in [name for name in CASES if any(name.startswith(wanted) for wanted in options.cases)]:
        data, make = CASES[name]
        trial, _ = together(data, make, 1, 40, options.device)
        steps = max(40, int(options.seconds / trial))
        solo, weights = alone(data, make, steps, options.device)
        print(f"{name}\n  one Lightning run after the other: {1 / solo:10.0f} replica-steps/s", flush=True)
        for members in options.members:
            count = max(40, min(steps, int(options.seconds / trial / members)))
            seconds, ours = together(data, make, members, count, options.device)
            if count == steps:
                torch.testing.assert_close(ours, weights, rtol=1e-2, atol=1e-3)
            rate = members / seconds
            print(
                f"  E = {members:3d} together:                {rate:10.0f} replica-steps/s, {rate * solo:5.1f} x",
                flush=True,
            )


if __name__ == "__main__":
    main()
