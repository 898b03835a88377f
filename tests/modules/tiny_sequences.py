"""Sequence trainings that take a second: 12 steps on 20 sequences of 8 bits."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as L

from memlight.callbacks import SequenceEvaluation
from memlight.data import SequenceDataModule
from memlight.modules import SequenceAttention, SequenceDAM
from memlight.modules.sequence.module import SequenceModule


def tiny_data(**changed: Any) -> SequenceDataModule:
    return SequenceDataModule(**{"num_sequences": 20, "num_bits": 8, "law": "zipf", "batch_size": 6, **changed})


def tiny_dam(**changed: Any) -> SequenceDAM:
    return SequenceDAM(**{"num_bits": 8, "num_heads": 2, "capacity": 15, "replicas": 3, **changed})


def tiny_attention(**changed: Any) -> SequenceAttention:
    return SequenceAttention(**{"num_bits": 8, "heads": 2, "features": 4, "replicas": 2, **changed})


def train(
    module: SequenceModule,
    *callbacks: L.Callback,
    steps: int = 12,
    data: SequenceDataModule | None = None,
    checkpoint: Path | None = None,
    every: int = 4,
) -> SequenceEvaluation:
    evaluation = SequenceEvaluation(every)
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=-1,
        max_steps=steps,
        log_every_n_steps=3,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[evaluation, *callbacks],
    )
    trainer.fit(module, datamodule=data or tiny_data(), ckpt_path=checkpoint, weights_only=True)
    return evaluation


class SaveAt(L.Callback):
    """Writes a checkpoint at the end of the epochs that end at these steps."""

    def __init__(self, directory: Path, at: Sequence[int]) -> None:
        self.directory, self.at = directory, tuple(at)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.global_step in self.at:
            trainer.save_checkpoint(self.directory / f"{trainer.global_step}.ckpt")
