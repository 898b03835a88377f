"""Masked autoencoder (He et al., CVPR 2022): the encoder sees a quarter of the patches, a decoder paints the rest."""

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from memlight.batch import ViewBatch
from memlight.errors import UserError, at_least
from memlight.modules.base import SSLModule
from memlight.modules.optim import OptimConfig
from memlight.random import ANALYSIS, seeded, uniforms

_MASK_STREAM = 0x6D61736B
_EPSILON = 1e-6


class MAE(SSLModule):
    """MAE around a plain ViT of timm, which is left as it is: names, weights and the forward of whole images.

    Which patches of an image are masked is a function of (``init_seed``, id, epoch) alone. Hidden patches are dropped
    before the encoder's first block. Unlike in the paper, the encoder's positions are learned, as timm has them; the
    decoder's are fixed sines and cosines.

    Args:
        encoder: name for `build_encoder`: ``vit_tiny_patch4``, ``vit_base_patch16``, ``timm:NAME`` of a plain ViT.
        stem: of ResNets; ViTs have one only.
        image_size: side of the views in pixels.
        init_seed: initial weights and masks are a function of it, so both members get the same; null as in SimCLR.
        optim: optimizer and schedule.
        channels_last: memory format of the encoder and the views.
        compile: compile the blocks of encoder and decoder with torch.compile.
        mask_ratio: share of the patches that the encoder does not see.
        norm_pix_loss: predict pixels normalised by mean and standard deviation of their patch.
        decoder_dim: width of the decoder.
        decoder_depth: blocks of the decoder.
        decoder_heads: attention heads of the decoder.
        init_from: weights that the encoder of both members starts from: a file, hub or hf:ORG/NAME; null starts from
            random ones, as heads do in any case.
        init_prefix: which part of that file is the encoder; null finds the only part that fits.
        encoder_args: what a class or function of one's own is called with.
    """

    num_views = 1

    def __init__(
        self,
        encoder: str = "vit_tiny_patch4",
        stem: Literal["cifar", "imagenet"] = "cifar",
        image_size: int = 32,
        init_seed: int | None = None,
        optim: OptimConfig = OptimConfig("adamw", lr=1.5e-4, weight_decay=0.05),  # noqa: B008 - frozen
        channels_last: bool = True,
        compile: bool = False,
        mask_ratio: float = 0.75,
        norm_pix_loss: bool = True,
        decoder_dim: int = 512,
        decoder_depth: int = 8,
        decoder_heads: int = 16,
        init_from: str | None = None,
        init_prefix: str | None = None,
        encoder_args: dict[str, Any] | None = None,
    ) -> None:
        at_least(1, decoder_dim=decoder_dim, decoder_depth=decoder_depth, decoder_heads=decoder_heads)
        if decoder_dim % math.lcm(4, decoder_heads):
            raise UserError("decoder_dim", decoder_dim, "must be a multiple of 4 and of `decoder_heads`")
        from lightly.models.modules import MaskedVisionTransformerDecoderTIMM
        from timm.layers.patch_embed import PatchEmbed
        from timm.models.vision_transformer import VisionTransformer

        super().__init__(
            encoder, stem, image_size, init_seed, optim, channels_last, False, init_from, init_prefix, encoder_args
        )
        vit = self.encoder
        if not (isinstance(vit, VisionTransformer) and isinstance(vit.patch_embed, PatchEmbed)) or vit.attn_pool:
            way_out = "use vit_tiny_patch4 or the like"
            raise UserError("encoder", encoder, "MAE hides patches from a plain ViT", way_out)
        self.num_patches = vit.patch_embed.num_patches
        self.num_visible = round(self.num_patches * (1 - mask_ratio))
        if not 0 < self.num_visible < self.num_patches:
            why = f"{self.num_visible} of {self.num_patches} patches would be visible"
            way_out = "choose a share that leaves some visible and some hidden"
            raise UserError("mask_ratio", mask_ratio, why, way_out)
        self.patch_size = vit.patch_embed.patch_size[0]
        self.num_prefix = vit.num_prefix_tokens
        self.image_size = image_size
        self.norm_pix_loss = norm_pix_loss
        with seeded(self.init_seed):
            self.embed = nn.Linear(vit.embed_dim, decoder_dim)
            self.decoder = MaskedVisionTransformerDecoderTIMM(
                self.num_patches, decoder_dim, decoder_depth, decoder_heads, self.num_prefix
            )
            self.predict = nn.Linear(decoder_dim, 3 * self.patch_size**2)
        if compile:
            vit.blocks.compile()
            self.decoder.blocks.compile()

    def require_views(self, num_views: int, size: int) -> None:
        """Refuse views of another size than the decoder paints.

        Raises:
            UserError: another size, or more than one view.
        """
        super().require_views(num_views, size)
        if size != self.image_size:
            raise UserError("view_size", size, "`model.image_size` must be the same")

    def embed_and_loss(self, batch: ViewBatch) -> tuple[Tensor, Tensor]:
        """Squared error of the hidden patches' pixels; the embedding is the mean of the visible patches' tokens."""
        view = self._as_weights(batch.views[0])
        order_BL = self.patch_order(batch)
        tokens_BTD = self.encode_visible(view, order_BL)
        prediction_BMP = self.paint_hidden(tokens_BTD, order_BL).float()
        with torch.autocast(view.device.type, enabled=False):
            hidden_BMP = take_tokens(patches(view.float(), self.patch_size), order_BL[:, self.num_visible :])
            loss = pixel_error(prediction_BMP, hidden_BMP, normalize=self.norm_pix_loss)
        return loss, tokens_BTD[:, self.num_prefix :].float().mean(dim=1)

    def patch_order(self, batch: ViewBatch) -> Tensor:
        """Patch numbers of each image, shuffled: ``int64 (B, L)``, first the visible ones, then the hidden ones.

        Where a batch does not say its epochs they are the Trainer's, or ``ANALYSIS`` outside training.
        """
        epoch = batch.epochs if batch.epochs is not None else self.current_epoch if self.training else ANALYSIS
        draws_BL = uniforms(self.init_seed, batch.ids, epoch=epoch, view=0, draws=self.num_patches, stream=_MASK_STREAM)
        return draws_BL.argsort(dim=1, stable=True)

    def encode_visible(self, view: Tensor, order_BL: Tensor) -> Tensor:
        """Last tokens of the encoder, which computes no others: ``(B, prefix + visible, D)``.

        Args:
            view: ``(B, 3, image_size, image_size)``.
            order_BL: from `patch_order`.
        """
        vit: Any = self.encoder
        tokens_BTD = vit._pos_embed(vit.patch_embed(view))
        prefix, patch_tokens = tokens_BTD[:, : self.num_prefix], tokens_BTD[:, self.num_prefix :]
        visible = take_tokens(patch_tokens, order_BL[:, : self.num_visible])
        encoded: Tensor = vit.blocks(vit.norm_pre(torch.cat([prefix, visible], dim=1)))
        normed: Tensor = vit.fc_norm(vit.norm(encoded))  # one of the two is the identity
        return normed

    def paint_hidden(self, tokens_BTD: Tensor, order_BL: Tensor) -> Tensor:
        """Pixels ``(B, hidden, 3 * side**2)`` of the hidden patches, from what `encode_visible` gave, in order."""
        tokens = self.embed(tokens_BTD)
        prefix, visible = tokens[:, : self.num_prefix], tokens[:, self.num_prefix :]
        blank = self.decoder.mask_token.to(tokens.dtype).expand(len(tokens), self.num_patches - self.num_visible, -1)
        in_place = take_tokens(torch.cat([visible, blank], dim=1), order_BL.argsort(dim=1))
        decoded = self.decoder(torch.cat([prefix, in_place], dim=1))
        painted: Tensor = self.predict(take_tokens(decoded[:, self.num_prefix :], order_BL[:, self.num_visible :]))
        return painted


def patches(images: Tensor, side: int) -> Tensor:
    """Cut ``(B, C, H, W)`` into patches of ``side`` pixels, row by row: ``(B, L, C * side**2)``."""
    return nn.functional.pixel_unshuffle(images, side).flatten(2).mT


def pixel_error(prediction_BMP: Tensor, pixels_BMP: Tensor, *, normalize: bool) -> Tensor:
    """Mean squared error over images, patches and pixels (He et al., CVPR 2022, sec. 3).

    Args:
        prediction_BMP: ``(B, M, P)``, P pixels of M patches of each image.
        pixels_BMP: ``(B, M, P)``, what they should be.
        normalize: bring each patch to mean 0 and standard deviation 1 first; as in the authors' code the variance is
            the unbiased one, plus 1e-6.
    """
    if normalize:
        variance, mean = torch.var_mean(pixels_BMP, dim=2, keepdim=True)
        pixels_BMP = (pixels_BMP - mean) / (variance + _EPSILON).sqrt()
    return nn.functional.mse_loss(prediction_BMP, pixels_BMP)


def take_tokens(tokens_BLD: Tensor, index_BK: Tensor) -> Tensor:
    """The tokens (or patches) with these numbers, ``(B, K, D)``."""
    return tokens_BLD.take_along_dim(index_BK[:, :, None], dim=1)
