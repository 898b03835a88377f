"""Progress of a training where there is no terminal to draw a bar on."""

import time

import lightning.pytorch as L
from lightning.pytorch.utilities import rank_zero_only


class EpochLines(L.Callback):
    """Print one line an epoch: the losses, how long it took, and how long the rest will take."""

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        self._start = time.perf_counter()

    @rank_zero_only
    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print the line."""
        seconds = time.perf_counter() - self._start
        epoch, last = trainer.current_epoch + 1, trainer.max_epochs or 0
        numbers = "  ".join(
            f"{name} {float(trainer.callback_metrics[name]):.4g}"
            for name in ("train/loss", "train/embedding_std", "val/loss", "knn/top1")
            if name in trainer.callback_metrics
        )
        left = f"{(last - epoch) * seconds / 60:.0f} min left" if last > 0 else ""
        print(f"epoch {epoch}/{last}  {numbers}  {seconds:.1f} s  {left}", flush=True)
