"""SimSiam (Chen & He, CVPR 2021): each view predicts the other, and the predicted one gets no gradient."""

from typing import Any, Literal

import torch
from torch import Tensor

from memlight.batch import ViewBatch
from memlight.errors import at_least
from memlight.models.encoders import encoder_spec
from memlight.modules.base import SSLModule
from memlight.modules.optim import OptimConfig
from memlight.random import seeded


class SimSiam(SSLModule):
    """SimSiam; neither negatives nor a second network, so a loss of a batch needs no other process.

    Args:
        encoder: name for `build_encoder`: ``resnet9``, ``resnet18``, ``timm:NAME`` ..., or one's own, as
            ``package.module:Class`` (or ``:function``) whose modules map images to features.
        stem: ``cifar`` (3x3, stride 1, no max-pool) or ``imagenet``; only torchvision ResNets have both.
        image_size: side of the views in pixels, for encoders that must know it (ViTs).
        init_seed: the initial weights are a function of it alone, so both members of a pair start equal; null takes
            --seed_everything (0 in Python).
        optim: optimizer and schedule, for the predictor too.
        channels_last: memory format of the encoder and the views.
        compile: compile the encoder with torch.compile.
        hidden_dim: width of the projection head.
        output_dim: width of what is compared.
        prediction_dim: width of the predictor's bottleneck.
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
        hidden_dim: int = 2048,
        output_dim: int = 2048,
        prediction_dim: int = 512,
        init_from: str | None = None,
        init_prefix: str | None = None,
        encoder_args: dict[str, Any] | None = None,
    ) -> None:
        at_least(1, hidden_dim=hidden_dim, output_dim=output_dim, prediction_dim=prediction_dim)
        from lightly.loss import NegativeCosineSimilarity
        from lightly.models.modules.heads import SimSiamPredictionHead, SimSiamProjectionHead

        super().__init__(
            encoder, stem, image_size, init_seed, optim, channels_last, compile, init_from, init_prefix, encoder_args
        )
        with seeded(self.init_seed):
            self.head = SimSiamProjectionHead(encoder_spec(self.encoder).num_features, hidden_dim, output_dim)
            self.predictor = SimSiamPredictionHead(output_dim, prediction_dim, output_dim)
        self.criterion = NegativeCosineSimilarity()

    def embed_and_loss(self, batch: ViewBatch) -> tuple[Tensor, Tensor]:
        """Half the negative cosine of view 0's prediction and view 1, half that of view 1's and view 0 (eq. 3)."""
        z = [self.head(features) for features in self.encode(batch.views)]
        p_0, p_1 = (self.predictor(z_v).float() for z_v in z)
        z_0, z_1 = (z_v.detach().float() for z_v in z)
        with torch.autocast(z_0.device.type, enabled=False):
            return (self.criterion(p_0, z_1) + self.criterion(p_1, z_0)) / 2, z_0
