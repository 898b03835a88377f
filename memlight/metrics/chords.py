"""Distances between the views of each image, exact where views nearly coincide.

The usual ``sqrt(2 - 2 cos)`` loses a distance of 1e-4 to rounding. Here every view is first centred on the mean of
the image's views, so that the Gram matrix rounds relative to the views' spread instead of their length, and the
distance of the normalised vectors is written as a difference of two accurate numbers:

    |x/|x| - y/|y||^2 = (|x - y|^2 - (|x| - |y|)^2) / (|x| |y|)

The few pairs that are still small against that spread are computed again by direct differences in float64.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

_NEAR = 0.1
"""A pair is computed directly when its squared distance is below this share of its two squared spreads."""

_SEGMENT = 1024
"""Float32 dot products run over about this many entries; the parts are added in float64."""

_DIRECT_ENTRIES = 1 << 24
"""Entries of one direct computation: bounds its memory at 128 MiB a term."""


def pairwise_squared(z_VBD: Tensor, first_P: Tensor, second_P: Tensor, normalize: bool) -> Tensor:
    """Squared l2 distances ``(P, B)`` in float64 between views ``first_P`` and ``second_P`` of each image."""
    with _plain_float32(z_VBD.device):
        z = z_VBD if z_VBD.dtype == torch.float64 else z_VBD.float()
        centred = z - z.mean(0)
        gram_BVV = _gram(centred)
        spread_VB = gram_BVV.diagonal(dim1=1, dim2=2).T
        spread_PB = spread_VB[first_P] + spread_VB[second_P]
        squared_PB = spread_PB - 2 * gram_BVV[:, first_P, second_P].T
        norms_VB = torch.linalg.vector_norm(z, dim=-1, dtype=torch.float64)
        if normalize:
            norm_a, norm_b = norms_VB[first_P], norms_VB[second_P]
            product = norm_a * norm_b
            one_is_zero = (norm_a == 0) != (norm_b == 0)
            radial = squared_PB - (norm_a - norm_b).square()
            near = (radial <= _NEAR * spread_PB) & (product > 0)
            squared_PB = torch.where(product == 0, one_is_zero.double(), radial / product)
            scale_VB = 1 / norms_VB.where(norms_VB > 0, 1)
        else:
            near = squared_PB <= _NEAR * spread_PB
            scale_VB = torch.ones_like(norms_VB)
        pair, image = near.nonzero(as_tuple=True)
        step = max(1, _DIRECT_ENTRIES // z.shape[-1])
        for p, b in zip(pair.split(step), image.split(step), strict=True):
            i, j = first_P[p], second_P[p]
            difference = z[i, b] * scale_VB[i, b, None] - z[j, b] * scale_VB[j, b, None]
            squared_PB[p, b] = difference.square().sum(-1)
        return squared_PB.clamp(min=0)


def pairwise_l1(z_VBD: Tensor, first_P: Tensor, second_P: Tensor, normalize: bool) -> Tensor:
    """L1 distances ``(P, B)`` in float64 between views ``first_P`` and ``second_P`` of each image."""
    z = z_VBD.double()
    if normalize:
        norms = torch.linalg.vector_norm(z, dim=-1, keepdim=True)
        z = z / norms.where(norms > 0, 1)
    z_BVD = z.transpose(0, 1).contiguous()
    return torch.cdist(z_BVD, z_BVD, p=1.0)[:, first_P, second_P].T


def _gram(c_VBD: Tensor) -> Tensor:
    views, images, width = c_VBD.shape
    segments = math.gcd(width, 1 << max(0, (width // _SEGMENT).bit_length() - 1)) if width else 1
    parts = c_VBD.reshape(views, images * segments, -1).transpose(0, 1)
    products = torch.bmm(parts, parts.transpose(1, 2))
    return products.view(images, segments, views, views).sum(1, dtype=torch.float64)


@contextmanager
def _plain_float32(device: torch.device) -> Iterator[None]:
    """Neither autocast nor TF32 inside: a Gram matrix in 10 bits of mantissa has no near pairs left."""
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(precision)
