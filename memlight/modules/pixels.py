"""Pixels of patches, as what a masked autoencoder has to predict."""

import torch
from torch import Tensor, nn

_EPSILON = 1e-6


def patches(images: Tensor, side: int) -> Tensor:
    """Cut ``(B, C, H, W)`` into patches of ``side`` pixels, row by row: ``(B, L, C * side**2)``."""
    return nn.functional.pixel_unshuffle(images, side).flatten(2).mT


def pixel_error(prediction_BMP: Tensor, pixels_BMP: Tensor, *, normalize: bool) -> Tensor:
    """Mean squared error over images, patches and pixels (He et al., CVPR 2022, sec. 3).

    Args:
        prediction_BMP: ``(B, M, P)``.
        pixels_BMP: likewise.
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
