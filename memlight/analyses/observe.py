"""What the measuring callbacks share: they work on a copy, so training is bit-identical with and without them."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path

import lightning.pytorch as L
from torch import nn

from memlight.data.images import ImageDataModule
from memlight.errors import UserError
from memlight.features.discovery import list_layers
from memlight.features.layers import check_layers
from memlight.modules.base import SSLModule
from memlight.runs.analysis import Analysis
from memlight.runs.log import AnalysisLog
from memlight.storage.rundir import RunDir


class ObserverCallback(L.Callback, ABC):
    """Measures something about the encoder every N epochs.

    Args:
        every_n_epochs: how often; the first time after N epochs.
        layers: layers to measure; all that the encoder has if None.
        network: which network of methods that have several; the default one if None.
    """

    def __init__(self, every_n_epochs: int, layers: list[str] | None, network: str | None = None) -> None:
        if every_n_epochs < 1:
            raise UserError(f"--every_n_epochs {every_n_epochs}: must be 1 or more.")
        self.every_n_epochs = every_n_epochs
        self.layers = layers
        self.network = network

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Refuse a network or layers that do not exist before the first step."""
        self.observed(pl_module)
        if self.layers is not None:
            check_layers(self.encoder(pl_module), self.layers)
        self.require_images(self.data(trainer))

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Measure after every N epochs, but not in a trial run, which must leave a run directory as it is."""
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        if (trainer.current_epoch + 1) % self.every_n_epochs == 0:
            self.observe(trainer, pl_module)

    def require_images(self, data: ImageDataModule) -> None:
        """Refuse images that cannot be measured, before anything is written; by default there are none such."""

    def require_labelled(self, data: ImageDataModule, at_least: Mapping[str, int]) -> None:
        """Refuse splits that are too small, or hold images without a class.

        Args:
            data: the images.
            at_least: split -> fewest images.

        Raises:
            UserError: names the first.
        """
        for split, least in at_least.items():
            labels = data.labels_of(data.split.ids(split))
            if len(labels) < least:
                raise UserError(f"--data.num_{split} {len(labels)}: {type(self).__name__} needs {least} or more.")
            if labels.min() < 0:
                raise UserError(
                    f"--data.root {data.root}: {type(self).__name__} needs images with classes (train/<class>/, "
                    "test/<class>/); leave it out of --trainer.callbacks."
                )

    @abstractmethod
    def observe(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Measure the encoder as it is now."""

    def observed(self, pl_module: L.LightningModule) -> nn.Module:
        """The network to measure.

        Raises:
            UserError: there is none, or none of that name.
        """
        if not isinstance(pl_module, SSLModule):
            raise UserError(f"--model {type(pl_module).__name__}: has no encoder to measure.")
        networks = pl_module.networks
        if self.network == next(iter(networks)):
            self.network = None
        if self.network is not None and self.network not in networks:
            raise UserError(
                f"--trainer.callbacks.network {self.network}: {type(pl_module).__name__} has {', '.join(networks)}."
            )
        return networks[self.network or next(iter(networks))]

    def encoder(self, pl_module: L.LightningModule) -> nn.Module:
        """A copy of the encoder as `analyze.py` would load it from a checkpoint of this moment: float32, eval mode."""
        return deepcopy(self.observed(pl_module)).float().eval()

    def moment(self, trainer: L.Trainer) -> str:
        """What tells this measurement apart: the network, where one was chosen, and the epoch."""
        return "-".join(filter(None, (self.network, f"epoch={trainer.current_epoch}")))

    def names(self, encoder: nn.Module) -> list[str]:
        """The layers to measure."""
        return self.layers if self.layers is not None else list_layers(encoder)

    def data(self, trainer: L.Trainer) -> ImageDataModule:
        """The images and splits of the training."""
        data = getattr(trainer, "datamodule", None)
        if not isinstance(data, ImageDataModule):
            raise UserError("--data: this callback needs an ImageDataModule, which knows the splits.")
        return data

    def log_to_disk(self, trainer: L.Trainer, analysis: Analysis, tag: str | None) -> AnalysisLog:
        """Where the tables go; the trainer's own loggers get the numbers."""
        data = self.data(trainer)
        run = RunDir(Path(data.run or trainer.default_root_dir))
        return AnalysisLog(
            run,
            analysis,
            tag=tag,
            logger="csv",
            seed=data.seed,
            split_sha256=data.split.sha256,
            checkpoints={},
            device=str(trainer.strategy.root_device),
        )

    def log_numbers(self, pl_module: L.LightningModule, command: str, numbers: Mapping[str, float]) -> None:
        """Hand numbers to the trainer's loggers as ``<command>/<name>``.

        Every process has the same ones, so their mean over processes, which Lightning wants, is the number itself.
        """
        pl_module.log_dict({f"{command}/{name}": value for name, value in numbers.items()}, sync_dist=True)
