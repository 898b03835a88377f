"""Colour changes of a whole batch, each image with its own parameters, values in [0, 1].

They are torchvision's tensor operations (``adjust_brightness`` and so on) without a branch or a shape that depends
on the data.
"""

from typing import NamedTuple

import torch
from torch import Tensor

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
_LUMA = (0.2989, 0.587, 0.114)
_TINY = 2.0**-60


class Jitter(NamedTuple):
    """Parameters of one ColorJitter per image.

    Attributes:
        factors: ``(B, 4)``: brightness, contrast and saturation factors (1 changes nothing), hue shift in turns
            (0 changes nothing).
        order: ``int64 (B, 4)``: which operation comes first, second, third, fourth.
    """

    factors: Tensor
    order: Tensor


def jitter(images: Tensor, params: Jitter) -> Tensor:
    """Brightness, contrast, saturation and hue in each image's own order.

    Brightness, contrast and saturation are one formula, ``clamp(f * x + (1 - f) * other)``, so three of them run
    before the hue, masked where an image has its hue earlier, and three after it.

    Args:
        images: ``(B, C, H, W)``.
        params: what to do to each.
    """
    pixels = images.flatten(2)
    blends = _blends(params)
    for blend in blends[:3]:
        pixels = _blend(pixels, *blend)
    pixels = _shift_hue(pixels, params.factors[:, HUE])
    for blend in blends[3:]:
        pixels = _blend(pixels, *blend)
    return pixels.reshape(images.shape)


def gray_where(images: Tensor, on_B: Tensor) -> Tensor:
    """Replace the images where ``on_B`` by their luma."""
    on = on_B.to(images.dtype)[:, None, None, None]
    return torch.addcmul(grayscale(images) * on, images, 1 - on)


def grayscale(images: Tensor) -> Tensor:
    """Luma ``(B, 1, ...)`` of ``(B, C, ...)``, with torchvision's weights; one channel is its own luma."""
    if images.shape[1] == 1:
        return images
    red, green, blue = images.unbind(1)
    luma = red * _LUMA[0]
    return luma.add_(green, alpha=_LUMA[1]).add_(blue, alpha=_LUMA[2]).unsqueeze(1)


def solarize(images: Tensor, threshold: float = 0.5) -> Tensor:
    """Invert every value at or above ``threshold``."""
    return torch.where(images >= threshold, 1 - images, images)


def _blends(params: Jitter) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Weights ``(B, 1, 1)`` of the image, its mean luma and its luma in three blends before and three after the hue."""
    hue_at_B1 = (params.order == HUE).to(torch.uint8).argmax(dim=1, keepdim=True)
    slots_3 = torch.arange(3, device=params.order.device)
    which_B3 = params.order.gather(1, slots_3 + (slots_3 >= hue_at_B1).long())
    factors_B3 = params.factors.gather(1, which_B3)
    before_B3 = hue_at_B1 > slots_3
    factors_B6 = torch.cat([torch.where(before_B3, factors_B3, 1.0), torch.where(before_B3, 1.0, factors_B3)], dim=1)
    which_B6 = which_B3.repeat(1, 2)
    rest_B6 = 1 - factors_B6
    weights = (factors_B6, rest_B6 * (which_B6 == CONTRAST), rest_B6 * (which_B6 == SATURATION))
    return list(zip(*(w.T[:, :, None, None].unbind(0) for w in weights), strict=True))


def _blend(pixels_BCN: Tensor, image: Tensor, mean: Tensor, luma: Tensor) -> Tensor:
    """``clamp(image * x + mean * mean(luma(x)) + luma * luma(x))``."""
    luma_B1N = grayscale(pixels_BCN)
    other_B1N = torch.addcmul(mean * luma_B1N.mean(dim=2, keepdim=True), luma_B1N, luma)
    return torch.addcmul(other_B1N, pixels_BCN, image).clamp_(0, 1)


def _shift_hue(pixels_BCN: Tensor, turns_B: Tensor) -> Tensor:
    """Turn the hue (HSV, as torchvision); images of one channel have none.

    With V, m and C = V - m the largest, the smallest value and their difference, the hue in sixths of a turn from
    red is ``sign(G - B) (G + B - R + V - 2 m) / C``, in [-3, 3], and a channel whose own hue lies ``x`` away has the
    value ``V - C clamp(2 - |3 - |x||, 0, 1)``: the usual six cases without a branch.
    """
    if pixels_BCN.shape[1] == 1:
        return pixels_BCN
    red, green, blue = pixels_BCN.unbind(1)
    largest = torch.maximum(red, green).maximum(blue)
    smallest = torch.minimum(red, green).minimum(blue)
    chroma = largest - smallest
    hue = (green + blue).sub_(red).add_(largest).sub_(smallest, alpha=2).div_(chroma.clamp(min=_TINY))
    hue.copysign_(green - blue)
    own_3 = 2 * torch.arange(3, device=turns_B.device)
    turns_B3 = (6 * turns_B[:, None] + 3 - own_3).remainder(6) - 3
    heights_B3N = (hue[:, None] + turns_B3[:, :, None]).abs_().sub_(3).abs_().clamp_(1, 2)
    return torch.addcmul(largest.sub_(chroma, alpha=2)[:, None], chroma[:, None], heights_B3N)
