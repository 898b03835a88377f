"""What every training method here shares: an encoder, an optimizer, and two alarms."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from itertools import chain, groupby
from typing import Any, ClassVar, Literal, NoReturn

import lightning.pytorch as L
import torch
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from memlight.batch import ViewBatch
from memlight.data.splits import Ids
from memlight.dist import world_size
from memlight.errors import UserError, named
from memlight.models.encoders import build_encoder
from memlight.models.foreign import load_weights
from memlight.models.hub import find_weights
from memlight.models.weight_files import weights_sha256
from memlight.modules.optim import OptimConfig, build_optimizer, build_schedule, keep_options

COLLAPSE_STD = 0.05
"""Below this spread of the normalised embeddings (1 = isotropic) a run is reported as collapsed."""


def embedding_std(z_BD: Tensor) -> Tensor:
    """Spread of l2-normalised embeddings, scaled so that isotropic directions give 1 and collapse gives 0.

    Args:
        z_BD: embeddings, ``(B, D)``.

    Returns:
        Scalar ``sqrt(D) * mean over dimensions of the std over the batch`` (Chen & He, SimSiam, sec. 4.1).
    """
    z_BD = nn.functional.normalize(z_BD.float(), dim=1)
    return z_BD.std(dim=0).mean() * math.sqrt(z_BD.shape[1])


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether no tensor holds a NaN or an infinity; one wait for the device."""
    return bool(torch.stack([tensor.isfinite().all() for tensor in tensors]).all())


def features_of_views(encoder: nn.Module, views: Iterable[Tensor]) -> list[Tensor]:
    """Features ``(B, num_features)`` of each view ``(B, 3, h, w)``, with one forward for neighbours of one size."""
    features: list[Tensor] = []
    for _, group in groupby(views, key=lambda view: view.shape):
        alike = list(group)
        features += encoder(torch.cat(alike)).chunk(len(alike))
    return features


class SSLModule(L.LightningModule, ABC):
    """A training method around an encoder.

    A method implements `embed_and_loss`; everything else (optimizer, schedule, logging, the NaN and the
    collapse alarm) is here. ``self.encoder`` is what the optimizer trains; `networks` names what can be
    analysed. Whatever else a method needs (heads, a decoder) is its own and is never analysed.

    Args:
        encoder: name for `build_encoder`: ``resnet9``, ``resnet18``, ``timm:NAME`` ..., or one's own, as
            ``package.module:Class`` (or ``:function``) whose modules map images to features.
        stem: ``cifar`` (3x3, stride 1, no max-pool) or ``imagenet``; only torchvision ResNets have both.
        image_size: side of the views in pixels, for encoders that must know it (ViTs).
        init_seed: the initial weights are a function of it alone, so both members of a pair start equal; null takes
            --seed_everything (0 in Python).
        optim: optimizer and schedule.
        channels_last: memory format of the encoder and the views.
        compile: compile the encoder with torch.compile.
        init_from: weights that the encoder of both members starts from: a file, hub or hf:ORG/NAME; null starts from
            random ones, as heads do in any case.
        init_prefix: which part of that file is the encoder; null finds the only part that fits.
        encoder_args: what a class or function of one's own is called with.

    Attributes:
        started_from: where the encoder's initial weights came from, if from a file: its name, the part, and the
            ``weights_sha256`` of what was loaded.
        num_views: views of each image that the method needs; None takes any number from ``min_views`` on.
    """

    num_views: ClassVar[int | None] = None
    min_views: ClassVar[int] = 1

    def __init__(
        self,
        encoder: str = "resnet9",
        stem: Literal["cifar", "imagenet"] = "cifar",
        image_size: int = 32,
        init_seed: int | None = None,
        optim: OptimConfig = OptimConfig(),  # noqa: B008 - frozen
        channels_last: bool = True,
        compile: bool = False,
        init_from: str | None = None,
        init_prefix: str | None = None,
        encoder_args: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.optim = optim
        self.init_seed = init_seed or 0
        with named(name="encoder", image_size="model.image_size"):
            self.encoder = build_encoder(
                encoder, stem=stem, seed=self.init_seed, image_size=image_size, encoder_args=encoder_args
            )
        self.started_from = self._start_from(init_from, init_prefix, encoder)
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.encoder.to(memory_format=self.memory_format)
        if compile:
            self.encoder.compile()

    def _start_from(self, init_from: str | None, init_prefix: str | None, encoder: str) -> dict[str, str] | None:
        """Give the encoder the weights of a file; positions of another grid are resampled to the size of the views."""
        if init_from is None:
            if init_prefix is not None:
                raise UserError("init_prefix", init_prefix, "is a part of a file", "name the file with `init_from`")
            return None
        with named(weights="init_from", path="init_from", prefix="init_prefix"):
            place = find_weights(init_from, encoder)
            loaded = load_weights(self.encoder, place.path, prefix=init_prefix, resample=True)
        self.encoder.train()
        return {
            "file": place.name,
            "prefix": loaded.prefix,
            "words": loaded.words,
            "weights_sha256": weights_sha256(self.encoder),
        }

    @property
    def method(self) -> str:
        """Short name of the method, as it stands in an encoder's metadata."""
        return type(self).__name__.lower()

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """Every network that can be analysed, by name; the first is, unless ``--network`` names another."""
        return {"encoder": self.encoder}

    def require_views(self, num_views: int, size: int) -> None:
        """Refuse views that the method cannot learn from, before training.

        Args:
            num_views: of each image in a step.
            size: side of a (global) view, pixels.

        Raises:
            UserError: the method needs more of them, or fewer.
        """
        takes = f"{type(self).__name__} takes"
        if self.num_views not in (None, num_views):
            views = f"{self.num_views} view{'s' * (self.num_views != 1)}"
            raise UserError("num_views", num_views, f"{takes} {views} of each image")
        if num_views < self.min_views:
            raise UserError("num_views", num_views, f"{takes} {self.min_views} views of each image, or more")

    def require_classes(self, num_classes: int) -> None:
        """Refuse images that a method cannot learn from, before training; by default none are.

        Args:
            num_classes: of the images; 0 where they have none.
        """

    def require_labels(self, training: Ids, validation: Ids) -> None:
        """Refuse images of which some have no class, before training; by default classes do not matter.

        Args:
            training: class of every image to train on; -1 for none.
            validation: class of every image for validation; -1 for none.
        """

    @abstractmethod
    def embed_and_loss(self, batch: ViewBatch) -> tuple[Tensor, Tensor]:
        """Loss of a batch and the embeddings whose spread tells collapse.

        Returns:
            ``(loss scalar, z (N, D))``.
        """

    def encode(self, views: list[Tensor]) -> list[Tensor]:
        """Features of each view, ``(B, num_features)``; neighbouring views of one size go through in one forward."""
        return features_of_views(self.encoder, [self._as_weights(view) for view in views])

    def _as_weights(self, view: Tensor) -> Tensor:
        """A view in the weights' layout, and in their dtype, which --trainer.precision bf16-true changes."""
        return view.to(self.dtype, memory_format=self.memory_format)

    def training_step(self, batch: ViewBatch, batch_idx: int) -> Tensor:
        """One step; logs ``train/loss`` and ``train/embedding_std``."""
        return self._step(batch, "train")

    def validation_step(self, batch: ViewBatch, batch_idx: int) -> Tensor | None:
        """Loss on held-out images with the encoder in eval mode; logs ``val/loss``.

        A last batch that is too small to have a loss (see `has_loss`) is left out of the mean.
        """
        if not self.has_loss(len(batch.ids), world_size()):
            return None
        return self._step(batch, "val")

    def has_loss(self, images: int, processes: int) -> bool:
        """Whether a batch has a loss; by default every one has, since the loss is a mean over images.

        Args:
            images: in the batch of each process.
            processes: how many there are.
        """
        return images > 0

    def _step(self, batch: ViewBatch, stage: str) -> Tensor:
        """The loss of a batch; one embedding alone has no spread, so it is left out of that mean."""
        loss, z_ND = self.embed_and_loss(batch)
        spread = {f"{stage}/embedding_std": embedding_std(z_ND.detach())} if len(z_ND) > 1 else {}
        self.log_dict(
            {f"{stage}/loss": loss.detach(), **spread},
            on_step=False,
            on_epoch=True,
            prog_bar=stage == "train",
            sync_dist=True,
            batch_size=len(batch.ids),
        )
        return loss

    def on_train_batch_end(self, outputs: Any, batch: ViewBatch, batch_idx: int) -> None:
        """Stop at the first logged step whose loss is not a number."""
        every: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        if self.global_step % every == 0:
            self._require_finite(outputs["loss"], "train/loss")

    def on_train_epoch_end(self) -> None:
        """Refuse to checkpoint a broken model; warn about a collapsed one."""
        metrics = self.trainer.callback_metrics
        for name in ("train/loss", "val/loss"):
            if name in metrics:
                self._require_finite(metrics[name], name)
        if not all_finite(chain(self.parameters(), self.buffers())):  # a last step can break them after its loss
            self._refuse("the weights are no longer finite")
        std = float(metrics.get("train/embedding_std", math.inf))
        if std < COLLAPSE_STD:
            rank_zero_warn(
                f"The embeddings have collapsed: their spread is {std:.3f} of an isotropic one at epoch "
                f"{self.current_epoch}. Lower the learning rate (optim.lr) or look at the views."
            )

    def _require_finite(self, loss: Tensor, name: str) -> None:
        if not torch.isfinite(loss):
            self._refuse(f"{name} is {float(loss)}")

    def _refuse(self, what: str) -> NoReturn:
        why = f"{what} at epoch {self.current_epoch}, step {self.global_step}; nothing of this epoch was saved"
        ways_out = ["lower it", "lengthen `warmup_epochs`", "use `precision='32-true'`"]
        raise UserError("lr", self.optim.lr, why, ways_out)

    def global_batch_size(self) -> int:
        """Samples an optimizer step sees over all processes.

        Taken from the data module's ``batch_size`` (which is global); without one, `lr_batch_size`, so
        that a plain DataLoader trains with the learning rate as given.
        """
        datamodule = getattr(self.trainer, "datamodule", None)
        batch_size = getattr(datamodule, "batch_size", None) or self.optim.lr_batch_size or 1
        return int(batch_size) * self.trainer.accumulate_grad_batches

    def trained_modules(self) -> list[nn.Module]:
        """The modules whose parameters the optimizer updates: all children by default."""
        return list(self.children())

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Optimizer over `trained_modules`, warm-up and cosine stepped every optimizer step.

        A training that goes on from a checkpoint has its moments and its position; rates and lengths are this one's.
        """
        optimizer = build_optimizer(self.optim, self.trained_modules(), self.global_batch_size())
        total = int(self.trainer.estimated_stepping_batches)
        epochs = max(self.trainer.max_epochs or 1, 1)
        warmup = round(self.optim.warmup_epochs * total / epochs)
        scheduler = build_schedule(
            optimizer, total_steps=total, warmup_steps=min(warmup, total), lr_end=self.optim.lr_end
        )
        keep_options(optimizer)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
