"""Checkpoints that are whole or not there: written beside their place, synced, renamed."""

from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from memlight.errors import UserError
from memlight.storage.locks import WriterLock
from memlight.storage.writing import atomic_write, is_full


class WholeCheckpointIO(TorchCheckpointIO):
    """Write a checkpoint on the file system where it belongs.

    Lightning writes it in the directory for temporary files and moves it from there, which copies where that is on
    another file system: a kill or a full disk then leaves ``last.ckpt`` cut.

    Args:
        lock: of the run's member; a run that was removed is not written to any more. None needs no lock.
    """

    def __init__(self, lock: WriterLock | None) -> None:
        self._lock = lock

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write the file as a whole; a failure leaves the one that was there.

        Args:
            checkpoint: what the Trainer collected.
            path: its place.
            storage_options: not used.

        Raises:
            UserError: the disk is full, or the run was removed.
        """
        if self._lock is not None:
            self._lock.require_in_place()
        try:
            with atomic_write(Path(path)) as temporary:
                torch.save(checkpoint, temporary)
        except Exception as error:
            if not is_full(error):
                raise
            why = f"the disk is full, so {Path(path).name} was not written; the checkpoint before it is as it was"
            way_out = "make room, and continue with `resume=True`"
            raise UserError("run", Path(path).parent.parent, why, way_out) from error


def write_whole_checkpoints(trainer: L.Trainer, lock: WriterLock | None) -> None:
    """Let a Trainer write its checkpoints through `WholeCheckpointIO`, unless it was given another way of its own."""
    if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
        trainer.strategy.checkpoint_io = WholeCheckpointIO(lock)
