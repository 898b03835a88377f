"""What the measuring callbacks share: they work on a copy, so training is bit-identical with and without them."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import ClassVar

import lightning.pytorch as L
from torch import nn

from memlight.data.images import ImageDataModule
from memlight.data.splits import PARTNERS
from memlight.errors import UserError, at_least
from memlight.features.discovery import chosen_layers
from memlight.modules.base import SSLModule
from memlight.runs.analysis import Analysis
from memlight.runs.checkpoints import encoder_from_checkpoint
from memlight.runs.log import AnalysisLog
from memlight.storage.rundir import RunDir


class ObserverCallback(L.Callback, ABC):
    """Measures something about the encoder every N epochs.

    Args:
        every_n_epochs: how often; the first time after N epochs.
        layers: layers to measure, or patterns such as ``layer4.*``; all that the encoder has if None.
        network: which network of methods that have several; the default one if None.
    """

    labelled: ClassVar[Mapping[str, int]] = {}
    """Splits that must hold images with classes, and how many at least."""

    def __init__(self, every_n_epochs: int, layers: list[str] | None, network: str | None = None) -> None:
        at_least(1, every_n_epochs=every_n_epochs)
        self.every_n_epochs = every_n_epochs
        self.layers = layers
        self.network = network

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Refuse a network or layers that do not exist before the first step."""
        self.observed(pl_module)
        if self.layers is not None:
            self.names(self.encoder(pl_module))
        self.require_images(self.data(trainer))

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Measure after every N epochs, but not in a trial run, which must leave a run directory as it is."""
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        if (trainer.current_epoch + 1) % self.every_n_epochs == 0:
            self.observe(trainer, pl_module)

    def require_images(self, data: ImageDataModule) -> None:
        """Refuse, before anything is written, splits of `labelled` that are too small or hold images without a class.

        Raises:
            UserError: names the first.
        """
        for split, least in self.labelled.items():
            labels = data.labels_of(data.split.ids(split))
            if len(labels) < least:
                raise UserError(f"num_{split}", len(labels), f"{type(self).__name__} needs {least} or more")
            if labels.min() < 0:
                why = f"{type(self).__name__} needs images with classes (train/<class>/, test/<class>/)"
                raise UserError("root", data.root, why, "leave it out of `trainer.callbacks`")

    @abstractmethod
    def observe(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Measure the encoder as it is now."""

    def observed(self, pl_module: L.LightningModule) -> nn.Module:
        """The network to measure.

        Raises:
            UserError: there is none, or none of that name.
        """
        if not isinstance(pl_module, SSLModule):
            raise UserError("model", type(pl_module).__name__, "has no encoder to measure")
        networks = pl_module.networks
        if self.network == next(iter(networks)):
            self.network = None
        if self.network is not None and self.network not in networks:
            raise UserError("network", self.network, f"{type(pl_module).__name__} has {', '.join(networks)}")
        return networks[self.network or next(iter(networks))]

    def encoder(self, pl_module: L.LightningModule) -> nn.Module:
        """A copy of the encoder as `analyze.py` would load it from a checkpoint of this moment: float32, eval mode."""
        return deepcopy(self.observed(pl_module)).float().eval()

    def partner(self, trainer: L.Trainer, pl_module: L.LightningModule, like: nn.Module) -> nn.Module | None:
        """The encoder of the pair's other member after the same epoch, in eval mode on the training's device.

        Args:
            trainer: says which epoch and which member.
            pl_module: says which device.
            like: an encoder of the same architecture, which is copied, not changed.

        Returns:
            None where the member has no partner, or the partner kept no checkpoint of this epoch.
        """
        role = self.data(trainer).role
        if role not in PARTNERS:
            return None
        path = self.run(trainer).member(PARTNERS[role]).checkpoints / f"epoch={trainer.current_epoch}.ckpt"
        if not trainer.strategy.broadcast(path.is_file()):
            return None
        return encoder_from_checkpoint(path, like=like, network=self.network).to(pl_module.device)

    def moment(self, trainer: L.Trainer) -> str:
        """What tells this measurement apart: the network, where one was chosen, and the epoch."""
        return "-".join(filter(None, (self.network, f"epoch={trainer.current_epoch}")))

    def names(self, encoder: nn.Module) -> list[str]:
        """The layers to measure."""
        return chosen_layers(encoder, self.layers)

    def data(self, trainer: L.Trainer) -> ImageDataModule:
        """The images and splits of the training."""
        data = getattr(trainer, "datamodule", None)
        if not isinstance(data, ImageDataModule):
            raise UserError("data", None, "this callback needs an ImageDataModule, which knows the splits")
        return data

    def run(self, trainer: L.Trainer) -> RunDir:
        """Where the results of the training go."""
        return RunDir(Path(self.data(trainer).run or trainer.default_root_dir))

    def log_to_disk(self, trainer: L.Trainer, analysis: Analysis, tag: str | None) -> AnalysisLog:
        """Where the tables go; the trainer's own loggers get the numbers."""
        data = self.data(trainer)
        return AnalysisLog(
            self.run(trainer),
            analysis,
            tag=tag,
            logger="csv",
            seed=data.seed,
            split_sha256=data.split.sha256,
            checkpoints={},
            device=str(trainer.strategy.root_device),
            names=data.names,
            wait=True,  # an hour of training must not be lost to a command that happens to write the same analysis
        )

    def log_numbers(self, pl_module: L.LightningModule, command: str, numbers: Mapping[str, float]) -> None:
        """Hand numbers to the trainer's loggers as ``<command>/<name>``.

        Every process has the same ones, so their mean over processes, which Lightning wants, is the number itself.
        """
        pl_module.log_dict({f"{command}/{name}": value for name, value in numbers.items()}, sync_dist=True)
