"""The state just before a data switch, from which other arms of an experiment can start."""

from pathlib import Path

import lightning.pytorch as L

from memlight.sequences.callbacks.at_steps import sequence_module


class SwitchCheckpoint(L.Callback):
    """Write ``switch_<i>.ckpt`` before the i-th switch, counted from 0, after everything that is measured there.

    Another run goes on from it with ``--ckpt_path``, with other callbacks if wanted: an arm that shares its past.

    Args:
        directory: where.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write it."""
        switches = sequence_module(pl_module).switch_steps
        if trainer.global_step in switches:
            name = f"switch_{switches.index(trainer.global_step)}.ckpt"
            trainer.save_checkpoint(self.directory / name)
