"""VICReg (Bardes, Ponce & LeCun, ICLR 2022): views of an image agree; no dimension dies or repeats another."""

from typing import Any, Literal

import torch
from torch import Tensor

from memlight.batch import ViewBatch
from memlight.errors import at_least
from memlight.models.encoders import encoder_spec
from memlight.modules.base import SSLModule
from memlight.modules.optim import OptimConfig
from memlight.random import seeded


class VICReg(SSLModule):
    """VICReg; variance and covariance are those of the global batch, gathered with gradients from all processes.

    The terms are those of the authors' code, for which 25, 25 and 1 are meant. The paper prints the invariance as a sum
    over dimensions (eq. 5) where the code has a mean, and the variance of both views (eq. 6) where the code has half.

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
        invariance: weight of the squared distance between the views.
        variance: weight of the hinge that keeps every dimension's standard deviation at 1 or more.
        covariance: weight of the squared covariances between dimensions.
        hidden_dim: width of the projection head's two hidden layers.
        output_dim: width of the embedding the loss sees.
        init_from: weights that the encoder of both members starts from: a file, hub or hf:ORG/NAME; null starts from
            random ones, as heads do in any case.
        init_prefix: which part of that file is the encoder; null finds the only part that fits.
        encoder_args: what a class or function of one's own is called with.
    """

    num_views = 2

    def __init__(
        self,
        encoder: str = "resnet9",
        stem: Literal["cifar", "imagenet"] = "cifar",
        image_size: int = 32,
        init_seed: int | None = None,
        optim: OptimConfig = OptimConfig(),  # noqa: B008 - frozen
        channels_last: bool = True,
        compile: bool = False,
        invariance: float = 25.0,
        variance: float = 25.0,
        covariance: float = 1.0,
        hidden_dim: int = 8192,
        output_dim: int = 8192,
        init_from: str | None = None,
        init_prefix: str | None = None,
        encoder_args: dict[str, Any] | None = None,
    ) -> None:
        at_least(0, invariance=invariance, variance=variance, covariance=covariance)
        at_least(1, hidden_dim=hidden_dim, output_dim=output_dim)
        from lightly.loss import VICRegLoss
        from lightly.models.modules.heads import VICRegProjectionHead

        super().__init__(
            encoder, stem, image_size, init_seed, optim, channels_last, compile, init_from, init_prefix, encoder_args
        )
        with seeded(self.init_seed):
            self.head = VICRegProjectionHead(encoder_spec(self.encoder).num_features, hidden_dim, output_dim)
        self.criterion = VICRegLoss(invariance, variance, covariance, gather_distributed=True)

    def has_loss(self, images: int, processes: int) -> bool:
        """The variance of each process's batch needs two images."""
        return images > 1

    def embed_and_loss(self, batch: ViewBatch) -> tuple[Tensor, Tensor]:
        """Invariance, variance and covariance of view 0 and view 1."""
        h_0, h_1 = self.encode(batch.views)
        z_0, z_1 = self.head(h_0).float(), self.head(h_1).float()
        with torch.autocast(z_0.device.type, enabled=False):
            return self.criterion(z_0, z_1), z_0
