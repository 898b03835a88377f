"""The autoencoder behind VAR's VQVAE, without its quantiser: the latents must suffice to paint the image again."""

from typing import Literal, cast

from torch import Tensor, nn

from memlight.batch import ViewBatch
from memlight.errors import UserError
from memlight.models.vqvae import VQVAEDecoder, VQVAEEncoder
from memlight.modules.base import SSLModule
from memlight.modules.optim import OptimConfig
from memlight.random import seeded


class Autoencoder(SSLModule):
    """VAR's encoder and decoder, trained on the squared error of the pixels of each view.

    The published weights were trained with a quantiser, a perceptual loss and a discriminator besides; this is what
    remains when only the encoder is asked for, at a size that trains without a cluster.

    Args:
        encoder: ``var_vqvae``, or ``var_vqvae_chC`` for C channels.
        stem: of ResNets; has no effect here.
        image_size: side of the views in pixels, a multiple of 16.
        init_seed: the initial weights are a function of it alone, so both members of a pair start equal; null takes
            --seed_everything (0 in Python).
        optim: optimizer and schedule, of the decoder too.
        channels_last: memory format of the encoder and the views.
        compile: compile the levels of encoder and decoder with torch.compile.
        init_from: weights that the encoder of both members starts from: a file, hub or hf:ORG/NAME; null starts from
            random ones, as heads do in any case.
        init_prefix: which part of that file is the encoder; null finds the only part that fits.
    """

    num_views = 1

    def __init__(
        self,
        encoder: str = "var_vqvae_ch32",
        stem: Literal["cifar", "imagenet"] = "cifar",
        image_size: int = 64,
        init_seed: int | None = None,
        optim: OptimConfig = OptimConfig("adamw", lr=1e-3, weight_decay=0.05),  # noqa: B008 - frozen
        channels_last: bool = True,
        compile: bool = False,
        init_from: str | None = None,
        init_prefix: str | None = None,
    ) -> None:
        super().__init__(encoder, stem, image_size, init_seed, optim, channels_last, False, init_from, init_prefix)
        vqvae = self.encoder
        if not isinstance(vqvae, VQVAEEncoder):
            raise UserError("encoder", encoder, "an autoencoder needs var_vqvae or var_vqvae_ch32 or the like")
        with seeded(self.init_seed):
            self.decoder = VQVAEDecoder(vqvae.conv_in.out_channels, latent_channels=vqvae.num_features)
        self.decoder.to(memory_format=self.memory_format)
        if compile:
            parts: list[nn.Module] = [*vqvae.down, vqvae.mid, *self.decoder.up, self.decoder.mid]
            for part in parts:
                part.compile()

    def require_views(self, num_views: int, size: int) -> None:
        """Refuse views that cannot be halved and doubled again.

        Raises:
            UserError: a size that is no multiple of 16, or more than one view.
        """
        super().require_views(num_views, size)
        if size % VQVAEEncoder.min_size:
            way_out = f"use a multiple of {VQVAEEncoder.min_size}"
            raise UserError("view_size", size, "the autoencoder halves views four times", way_out)

    def embed_and_loss(self, batch: ViewBatch) -> tuple[Tensor, Tensor]:
        """Mean squared error of the painted view, pixels as normalised; the embedding is the latents' mean."""
        view = self._as_weights(batch.views[0])
        latents = cast(VQVAEEncoder, self.encoder).latents(view)
        loss = nn.functional.mse_loss(self.decoder(latents).float(), view.float())
        return loss, latents.float().mean((2, 3))
