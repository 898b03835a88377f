"""SimCLR (Chen et al., ICML 2020): two views of an image agree, all other images of the batch disagree."""

from typing import Any, Literal

import torch
from torch import Tensor

from memlight.batch import ViewBatch
from memlight.errors import at_least, positive
from memlight.models.encoders import encoder_spec
from memlight.modules.base import SSLModule
from memlight.modules.optim import OptimConfig
from memlight.random import seeded


class SimCLR(SSLModule):
    """SimCLR with NT-Xent over the global batch, gathered with gradients from all processes.

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
        temperature: of NT-Xent.
        hidden_dim: width of the projection head; 0 takes the encoder's feature width.
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
        temperature: float = 0.5,
        hidden_dim: int = 0,
        output_dim: int = 128,
        init_from: str | None = None,
        init_prefix: str | None = None,
        encoder_args: dict[str, Any] | None = None,
    ) -> None:
        positive(temperature=temperature)
        at_least(0, hidden_dim=hidden_dim)
        at_least(1, output_dim=output_dim)
        # lightly loads timm, most of a second that `train.py fit --help` need not wait for
        from lightly.loss import NTXentLoss
        from lightly.models.modules.heads import SimCLRProjectionHead

        super().__init__(
            encoder, stem, image_size, init_seed, optim, channels_last, compile, init_from, init_prefix, encoder_args
        )
        width = encoder_spec(self.encoder).num_features
        with seeded(self.init_seed):
            self.head = SimCLRProjectionHead(width, hidden_dim or width, output_dim)
        self.criterion = NTXentLoss(temperature=temperature, gather_distributed=True)

    def has_loss(self, images: int, processes: int) -> bool:
        """An image alone has no other one to differ from; those of other processes count."""
        return images * processes > 1

    def embed_and_loss(self, batch: ViewBatch) -> tuple[Tensor, Tensor]:
        """NT-Xent between view 0 and view 1."""
        h_0, h_1 = self.encode(batch.views)
        z_0, z_1 = self.head(h_0).float(), self.head(h_1).float()
        with torch.autocast(z_0.device.type, enabled=False):
            return self.criterion(z_0, z_1), z_0
