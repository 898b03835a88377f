"""Progress of a sequence training: a bar over gradient steps on a terminal, else a line an evaluation."""

import sys
import time
from typing import Any

import lightning.pytorch as L
from lightning.pytorch.utilities import rank_zero_only
from tqdm import tqdm

from memlight.batch import SequenceBlock
from memlight.sequences.callbacks.at_steps import sequence_module


class SequenceProgress(L.Callback):
    """Say how far the training is, and how well its members predict."""

    def __init__(self) -> None:
        self._bar: tqdm[Any] | None = None

    @rank_zero_only
    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        self._start, self._from = time.perf_counter(), trainer.global_step
        if sys.stderr.isatty():
            self._bar = tqdm(total=int(trainer.max_steps), initial=trainer.global_step, unit="step")

    @rank_zero_only
    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: SequenceBlock, batch_idx: int
    ) -> None:
        """Move the bar."""
        if self._bar is not None:
            self._bar.update(batch.stop - batch.start)

    @rank_zero_only
    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print the line, with the mean over members of what was logged last."""
        module, step, last = sequence_module(pl_module), trainer.global_step, int(trainer.max_steps)
        numbers = "  ".join(f"{name} {value:.4g}" for name, value in module.latest.items())
        if self._bar is not None:
            self._bar.set_postfix_str(numbers)
            return
        seconds = time.perf_counter() - self._start
        left = (last - step) * seconds / max(1, step - self._from) / 60
        print(f"step {step}/{last}  {numbers}  {seconds:.1f} s  {left:.1f} min left", flush=True)

    @rank_zero_only
    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()
