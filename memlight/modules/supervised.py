"""Supervised cross-entropy: the contrast to the self-supervised methods, with the same views and the same analyses."""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from memlight.batch import ViewBatch
from memlight.data.splits import Ids
from memlight.errors import UserError, at_least, below_one
from memlight.models.encoders import encoder_spec
from memlight.modules.base import SSLModule
from memlight.modules.optim import OptimConfig
from memlight.random import seeded


class Supervised(SSLModule):
    """A linear classifier on the encoder, both trained with cross-entropy; only the encoder is analysed.

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
        num_classes: classes of the data set.
        label_smoothing: of the cross-entropy.
        init_from: weights that the encoder of both members starts from: a file, hub or hf:ORG/NAME; null starts from
            random ones, as heads do in any case.
        init_prefix: which part of that file is the encoder; null finds the only part that fits.
        encoder_args: what a class or function of one's own is called with.
    """

    def __init__(
        self,
        encoder: str = "resnet9",
        stem: Literal["cifar", "imagenet"] = "cifar",
        image_size: int = 32,
        init_seed: int | None = None,
        optim: OptimConfig = OptimConfig(),  # noqa: B008 - frozen
        channels_last: bool = True,
        compile: bool = False,
        num_classes: int = 10,
        label_smoothing: float = 0.0,
        init_from: str | None = None,
        init_prefix: str | None = None,
        encoder_args: dict[str, Any] | None = None,
    ) -> None:
        at_least(2, num_classes=num_classes)
        below_one(label_smoothing=label_smoothing)
        super().__init__(
            encoder, stem, image_size, init_seed, optim, channels_last, compile, init_from, init_prefix, encoder_args
        )
        with seeded(self.init_seed):
            self.head = nn.Linear(encoder_spec(self.encoder).num_features, num_classes)
        self.criterion = nn.CrossEntropyLoss(label_smoothing=label_smoothing, ignore_index=-1)

    def require_classes(self, num_classes: int) -> None:
        """Refuse images whose classes are not those of the classifier.

        Raises:
            UserError: there are no classes, or another number of them.
        """
        if num_classes == 0:
            raise UserError("model", "Supervised", "these images have no classes", "give train/<class>/ folders")
        if num_classes != self.head.out_features:
            raise UserError("num_classes", self.head.out_features, f"the images have {num_classes} classes")

    def require_labels(self, training: Ids, validation: Ids) -> None:
        """Refuse to train on images without a class, and to validate on such images alone.

        Raises:
            UserError: there are some.
        """
        file = "give their classes with `data.labels`"
        if count := int((training < 0).sum()):
            why = f"{count} of {len(training)} training images have no class"
            raise UserError("model", "Supervised", why, [file, "leave them out"])
        if len(validation) and (validation < 0).all():
            why = f"none of the {len(validation)} external images, which are for validation, has a class"
            raise UserError("model", "Supervised", why, [file, "`data.num_external=0` validates on none"])

    def embed_and_loss(self, batch: ViewBatch) -> tuple[Tensor, Tensor]:
        """Cross-entropy of the labels, averaged over views."""
        features = torch.cat(self.encode(batch.views))
        logits = self.head(features).float()
        with torch.autocast(logits.device.type, enabled=False):
            return self.criterion(logits, batch.labels.repeat(len(batch.views))), features
