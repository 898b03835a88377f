"""Distances between the views of each image, exact where views nearly coincide.

The usual ``sqrt(2 - 2 cos)`` loses a distance of 1e-4 to rounding. Here every view z is first centred on the mean r of
the image's views, c = z - r, so that one Gram matrix of the c and r rounds relative to the views' spread instead of
their length. The distance of the normalised vectors is then a difference of two numbers that are accurate themselves:

    |x/|x| - y/|y||^2 = (|x - y|^2 - (|x| - |y|)^2) / (|x| |y|)
    |x| - |y| = (2 (c_x - c_y).r + |c_x|^2 - |c_y|^2) / (|x| + |y|)

The few pairs that are still small against that spread are computed again by direct differences in float64.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

_NEAR = 0.1
"""A pair is computed directly when its squared distance is below this share of its two squared spreads."""

_SEGMENT = 1024
"""Float32 dot products run over this many entries; the parts are added in float64."""

_DIRECT_ENTRIES = 1 << 24
"""Entries of one direct computation: bounds its memory at 128 MiB a term."""


def pairwise_squared(z_VBD: Tensor, first_P: Tensor, second_P: Tensor, normalize: bool) -> Tensor:
    """Squared l2 distances ``(P, B)`` in float64 between views ``first_P`` and ``second_P`` of each image."""
    views, images, width = z_VBD.shape
    # A CPU is twice as fast on what its caches and allocator can hold; a GPU wants few and large kernels.
    entries = 1 << 22 if z_VBD.device.type == "cpu" else 1 << 28
    step = max(1, entries // (views * width))
    with torch.no_grad(), _plain_float32(z_VBD.device):
        parts = [
            _squared(z_VBD[:, start : start + step], first_P, second_P, normalize) for start in range(0, images, step)
        ]
        return torch.cat(parts, dim=1)


def _squared(z_VBD: Tensor, first_P: Tensor, second_P: Tensor, normalize: bool) -> Tensor:
    z = z_VBD if z_VBD.dtype == torch.float64 else z_VBD.float()
    views, images, width = z.shape
    segment = min(width, _SEGMENT)
    rows = z.new_empty(views + 1, images, -(-width // segment) * segment)
    rows[..., width:] = 0
    mean = rows[views, :, :width].copy_(z.mean(0))
    torch.sub(z, mean, out=rows[:views, :, :width])
    gram_RRB = _gram(rows, segment).permute(1, 2, 0)
    spread_VB = gram_RRB.diagonal().T[:views]
    spread_a, spread_b = spread_VB[first_P], spread_VB[second_P]
    squared_PB = spread_a + spread_b - 2 * gram_RRB[first_P, second_P]
    near = squared_PB <= _NEAR * (spread_a + spread_b)
    if normalize:
        norms_VB = _norms(z)
        norm_a, norm_b = norms_VB[first_P], norms_VB[second_P]
        along = gram_RRB[views]
        radial = (2 * (along[first_P] - along[second_P]) + spread_a - spread_b) / (norm_a + norm_b)
        product = norm_a * norm_b
        squared_PB = squared_PB - radial.square()
        near = (squared_PB <= _NEAR * (spread_a + spread_b)) & (product > 0)
        one_is_zero = (norm_a == 0) != (norm_b == 0)
        squared_PB = torch.where(product == 0, one_is_zero.double(), squared_PB / product)
    pair, image = near.nonzero(as_tuple=True)
    step = max(1, _DIRECT_ENTRIES // z.shape[-1])
    for start in range(0, len(pair), step):
        p, b = pair[start : start + step], image[start : start + step]
        x, y = z[first_P[p], b].double(), z[second_P[p], b].double()
        difference = _unit(x) - _unit(y) if normalize else x - y
        squared_PB[p, b] = difference.square().sum(-1)
    return squared_PB.clamp(min=0)


def pairwise_l1(z_VBD: Tensor, first_P: Tensor, second_P: Tensor, normalize: bool) -> Tensor:
    """L1 distances ``(P, B)`` in float64 between views ``first_P`` and ``second_P`` of each image."""
    with torch.no_grad():
        z = _unit(z_VBD.double()) if normalize else z_VBD.double()
        z_BVD = z.transpose(0, 1).contiguous()
        return torch.cdist(z_BVD, z_BVD, p=1.0)[:, first_P, second_P].T


def _gram(rows_RBD: Tensor, segment: int) -> Tensor:
    """Dot products ``(B, R, R)`` of the rows of each image, in float64."""
    rows, images, width = rows_RBD.shape
    segments = width // segment
    parts = rows_RBD.view(rows, images * segments, segment).transpose(0, 1)
    products = torch.bmm(parts, parts.transpose(1, 2))
    return products.view(images, segments, rows, rows).sum(1, dtype=torch.float64)


def _norms(z_VBD: Tensor) -> Tensor:
    """L2 norms ``(V, B)`` in float64."""
    segments, rest = divmod(z_VBD.shape[-1], _SEGMENT)
    whole = z_VBD.shape[-1] - rest
    parts = [torch.linalg.vector_norm(z_VBD[..., whole:], dim=-1, keepdim=True)]
    if segments:
        segmented = z_VBD[..., :whole].view(*z_VBD.shape[:-1], segments, _SEGMENT)
        parts.append(torch.linalg.vector_norm(segmented, dim=-1))
    norms: Tensor = torch.linalg.vector_norm(torch.cat(parts, dim=-1), dim=-1, dtype=torch.float64)
    return norms


def _unit(z: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(z, dim=-1, keepdim=True)
    return z / norms.where(norms != 0, 1)


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
