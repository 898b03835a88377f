"""Crops, flips and blurs of a whole batch, each image with its own parameters.

All of them are linear and separable, so each is a pair of small matrices per image and
``out = W_y @ image @ W_x^T``: one exact path for every size, for the CPU and the GPU.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

TRIES = 10
"""How many boxes RandomResizedCrop draws before it falls back to the centre, as torchvision."""


class Boxes(NamedTuple):
    """One crop per image, in whole pixels.

    Attributes:
        top: ``float32 (B,)``, as the others: whole numbers.
        left: ``(B,)``.
        height: ``(B,)``.
        width: ``(B,)``.
    """

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor


def random_boxes(
    draws_BD: Tensor, height: int, width: int, scale: tuple[float, float], ratio: tuple[float, float]
) -> Boxes:
    """Choose boxes as torchvision's ``RandomResizedCrop.get_params``: ten tries, the first that fits, else the centre.

    Args:
        draws_BD: uniforms ``(B, 2 * TRIES + 2)``.
        height: of the images, pixels.
        width: of the images, pixels.
        scale: smallest and largest share of the image's area.
        ratio: smallest and largest width over height; uniform in its logarithm.
    """
    area_BT = (draws_BD[:, :TRIES] * (scale[1] - scale[0]) + scale[0]) * (height * width)
    low, high = math.log(ratio[0]), math.log(ratio[1])
    ratio_BT = _exp(draws_BD[:, TRIES : 2 * TRIES] * (high - low) + low)
    width_BT = (area_BT * ratio_BT).sqrt().round()
    height_BT = (area_BT / ratio_BT).sqrt().round()
    fits_BT = (width_BT > 0) & (width_BT <= width) & (height_BT > 0) & (height_BT <= height)
    first_B1 = fits_BT.to(torch.uint8).argmax(dim=1, keepdim=True)
    any_B = fits_BT.any(dim=1)

    fallback_height, fallback_width = _largest_box(height, width, ratio)
    height_B = torch.where(any_B, height_BT.gather(1, first_B1)[:, 0], fallback_height)
    width_B = torch.where(any_B, width_BT.gather(1, first_B1)[:, 0], fallback_width)
    top_B = (draws_BD[:, -2] * (height - height_B + 1)).floor()
    left_B = (draws_BD[:, -1] * (width - width_B + 1)).floor()
    return Boxes(
        torch.where(any_B, top_B, (height - fallback_height) // 2),
        torch.where(any_B, left_B, (width - fallback_width) // 2),
        height_B,
        width_B,
    )


def whole_boxes(like_B: Tensor, height: int, width: int) -> Boxes:
    """The box that is the whole image, for every row of ``like_B``."""
    zero_B = torch.zeros_like(like_B, dtype=torch.float32)
    return Boxes(zero_B, zero_B, torch.full_like(zero_B, height), torch.full_like(zero_B, width))


def crop_matrix(start_B: Tensor, length_B: Tensor, flip_B: Tensor, in_size: int, out_size: int) -> Tensor:
    """Antialiased bilinear resampling of ``[start, start + length)`` to ``out_size`` pixels, mirrored where asked.

    The weights of ``torch.nn.functional.interpolate(mode="bilinear", antialias=True)`` on the cropped image: a
    triangle as wide as an output pixel, or an input pixel where that is wider, renormalised at the crop's edges.

    Args:
        start_B: first pixel of the crop.
        length_B: its extent, pixels.
        flip_B: ``bool (B,)``.
        in_size: extent of the image, pixels.
        out_size: extent of the result, pixels.

    Returns:
        ``(B, out_size, in_size)``; rows sum to 1.
    """
    out_O = torch.arange(out_size, device=start_B.device, dtype=torch.float32) + 0.5
    in_I = torch.arange(in_size, device=start_B.device, dtype=torch.float32) + 0.5
    step_B = length_B / out_size
    out_BO = torch.where(flip_B[:, None], out_size - out_O, out_O)
    centre_BO = out_BO * step_B[:, None] + start_B[:, None]
    sharpness_B = step_B.clamp(min=1).reciprocal()
    inside_BI = (in_I > start_B[:, None]) & (in_I < (start_B + length_B)[:, None])
    distance_BOI = (centre_BO[:, :, None] - in_I).abs_().mul_(sharpness_B[:, None, None])
    weights_BOI = (1 - distance_BOI).clamp_(min=0).mul_(inside_BI[:, None, :])
    return weights_BOI.div_(weights_BOI.sum(dim=2, keepdim=True))


def blur_kernel_size(size: int) -> int:
    """Odd number of taps nearest above a tenth of ``size``, at least 3 (SimCLR, appendix A: 10 % of the image)."""
    return max(3, size // 10 | 1)


def blur_matrix(sigma_B: Tensor, blurred_B: Tensor, kernel_size: int, size: int) -> Tensor:
    """Gaussian blur with reflected borders along one axis, as torchvision's ``gaussian_blur``.

    Args:
        sigma_B: standard deviation, pixels.
        blurred_B: ``bool (B,)``; the identity where false.
        kernel_size: odd number of taps, at most ``2 * size - 1``.
        size: extent of the axis, pixels.

    Returns:
        ``(B, size, size)``; rows sum to 1.
    """
    radius = kernel_size // 2
    taps_K = torch.arange(-radius, radius + 1, device=sigma_B.device, dtype=torch.float32)
    kernel_BK = torch.where(
        blurred_B[:, None], (-0.5 * (taps_K / sigma_B[:, None]) ** 2).exp(), (taps_K == 0).to(torch.float32)
    )
    kernel_BK = kernel_BK / kernel_BK.sum(dim=1, keepdim=True)

    to_OK = torch.arange(size, device=sigma_B.device)[:, None] + taps_K.long()
    reflected_OK = (size - 1) - ((size - 1) - to_OK.abs()).abs()
    matrix_BOI = sigma_B.new_zeros((len(sigma_B), size, size))
    index_BOK = reflected_OK.expand(len(sigma_B), -1, -1)
    return matrix_BOI.scatter_add_(2, index_BOK, kernel_BK[:, None, :].expand_as(index_BOK))


def separable(images: Tensor, rows_BOI: Tensor, columns_BOI: Tensor) -> Tensor:
    """``rows @ image @ columns^T`` for every channel.

    Args:
        images: ``float32 (B, C, H, W)``.
        rows_BOI: ``(B, h, H)``.
        columns_BOI: ``(B, w, W)``.

    Returns:
        ``(B, C, h, w)``.
    """
    batch, channels, height, _ = images.shape
    across = torch.bmm(images.flatten(1, 2), columns_BOI.transpose(1, 2))
    return torch.matmul(rows_BOI[:, None], across.view(batch, channels, height, -1))


def _largest_box(height: int, width: int, ratio: tuple[float, float]) -> tuple[int, int]:
    """Height and width of the largest box whose aspect ratio is allowed."""
    if width / height < ratio[0]:
        return round(width / ratio[0]), width
    if width / height > ratio[1]:
        return height, round(height * ratio[1])
    return height, width


def _exp(x: Tensor) -> Tensor:
    """``exp`` of numbers between -0.5 and 0.5 to float32 precision, from sums and products only.

    Library exponentials differ in the last bit between devices and between the body and the tail of a vector, which
    would now and then move a box by a pixel; sums and products are rounded alike everywhere.
    """
    result = torch.ones_like(x)
    for order in range(8, 0, -1):
        result = result * x / order + 1
    return result
