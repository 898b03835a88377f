"""From pictures to one vector a patch: each patch alone, or the map of a whole picture averaged over its patches."""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from memlight.errors import UserError
from memlight.features.axes import unit_axis
from memlight.features.discovery import evaluating, first_tensor, forward_blank, watching
from memlight.features.hooks import capture, count_prefix_tokens
from memlight.patches.grid import patch_boxes

Mode = Literal["crop", "token"]
Precision = Literal["float32", "bfloat16", "float16"]
Channels = tuple[float, float, float]
Embed = Callable[[Tensor], Tensor]
"""``uint8 (B, 3, H, W)`` on any device -> ``float32 (B, grid ** 2, dim)`` on the encoder's."""


@dataclass(frozen=True)
class Embedder:
    """What `embedding` yields.

    Attributes:
        embed: pictures to vectors.
        layer: path of the module whose map is averaged; None for ``crop``, which takes the encoder's output.
        dim: numbers of a patch.
    """

    embed: Embed
    layer: str | None
    dim: int


@contextmanager
def embedding(
    encoder: nn.Module,
    mode: Mode,
    grid: int,
    *,
    input_size: int,
    mean: Channels,
    std: Channels,
    precision: Precision = "float32",
) -> Iterator[Embedder]:
    """Make an encoder embed patches while the block lasts; it is left as it was.

    Args:
        encoder: maps ``(B, 3, H, W)`` to ``(B, F)``, or to maps ``(B, F, h, w)`` which ``crop`` averages.
        mode: ``crop`` cuts each patch out of the picture, resizes it to ``input_size`` and embeds it alone, by the
            encoder's output; ``token`` embeds the whole picture once and averages the deepest map that is fine enough
            over the patches, so that a patch's vector knows its surroundings.
        grid: patches on a side.
        input_size: side of what the encoder is given, pixels.
        mean: subtracted from each channel in [0, 1].
        std: each channel is divided by it after that.
        precision: of the encoder's arithmetic (autocast).

    Raises:
        UserError: the encoder has no map so fine (``token``).
    """
    weight = next(encoder.parameters())
    mean_C, std_C = (torch.tensor(v, device=weight.device).view(3, 1, 1) for v in (mean, std))
    dtype = getattr(torch, precision)

    def forward(pictures: Tensor) -> Tensor:
        with torch.autocast(weight.device.type, dtype, enabled=dtype != torch.float32):
            output: Tensor = encoder((pictures - mean_C) / std_C)
        return output.float()

    def crops(images: Tensor) -> Tensor:
        pictures = images.to(weight.device, non_blocking=True).float() / 255
        height, width = images.shape[2:]
        boxes = patch_boxes(height, width, grid)
        cut = [_resized(pictures[:, :, b.top : b.bottom, b.left : b.right], input_size) for b in boxes]
        output = forward(torch.stack(cut, 1).flatten(0, 1))
        vectors = output.flatten(2).mean(2) if output.ndim > 2 else output
        return vectors.reshape(len(images), len(boxes), -1)

    blank = torch.zeros(1, 3, input_size, input_size, dtype=torch.uint8)
    if mode == "crop":
        with torch.no_grad(), evaluating(encoder):
            yield Embedder(crops, None, crops(blank).shape[2])
        return
    layer = deepest_map(encoder, grid, input_size)

    def pooled(output: Tensor) -> Tensor:
        positions = as_map(encoder, layer, output)
        assert positions is not None, "it was a map when the layer was chosen"
        return adaptive_avg_pool2d(positions.float(), grid)

    with torch.no_grad(), evaluating(encoder), capture(encoder, [layer], pooled) as captured:

        def tokens(images: Tensor) -> Tensor:
            pictures = images.to(weight.device, non_blocking=True).float() / 255
            forward(_resized(pictures, input_size))
            return captured[layer].flatten(2).transpose(1, 2)

        yield Embedder(tokens, layer, tokens(blank).shape[2])


def require_fitting(grid: int, height: int, width: int) -> None:
    """Refuse a grid with more patches than the pictures have pixels.

    Raises:
        UserError: says how many there are.
    """
    if grid > min(height, width):
        raise UserError("grid", grid, f"the pictures have {height} x {width} pixels", "use a smaller one")


def _resized(pictures: Tensor, side: int) -> Tensor:
    """Bilinear, antialiased where it makes smaller."""
    if pictures.shape[2:] == (side, side):
        return pictures
    return interpolate(pictures, (side, side), mode="bilinear", align_corners=False, antialias=True)


def deepest_map(encoder: nn.Module, grid: int, image_size: int) -> str:
    """Path of the last module of a forward whose output has at least ``grid`` positions on each side.

    Of a ViT that is its last norm; of a convolutional network on large images the last stage, on small images an
    earlier one.

    Args:
        encoder: maps ``(B, 3, H, W)`` to features; left as it was.
        grid: patches on a side.
        image_size: image side, pixels.

    Raises:
        UserError: no output has so many positions.
    """
    names: dict[nn.Module, str] = {module: name for name, module in encoder.named_modules() if name}
    times: Counter[nn.Module] = Counter()
    maps: list[nn.Module] = []
    largest = 0

    def begin(module: nn.Module, _: Any, __: Any) -> None:
        times[module] += 1

    def end(module: nn.Module, _: Any, output: Any) -> None:
        nonlocal largest
        x = first_tensor(output)
        positions = None if x is None else as_map(encoder, names[module], x)
        if positions is not None:
            side = min(positions.shape[2:])
            largest = max(largest, side)
            if side >= grid:
                maps.append(module)

    with watching(names, begin, end):
        forward_blank(encoder, image_size)
    once = [module for module in maps if times[module] == 1]
    if not once:
        finest = f"the finest map that the extractor makes of {image_size}-pixel images has {largest} x {largest}"
        way_out = "use a smaller `grid`, a larger `image_size`, or `mode='crop'`"
        raise UserError("grid", grid, f"{finest} positions", way_out)
    return names[once[-1]]


def as_map(encoder: nn.Module, layer: str, output: Tensor) -> Tensor | None:
    """A layer's output as ``(B, C, h, w)``; None where it is no map.

    Args:
        encoder: the network.
        layer: path of the module.
        output: ``(B, C, h, w)`` or ``(B, h, w, C)`` as the module is, or tokens ``(B, T, C)``, of which those before
            the patches (class token, registers) are left out and the others must make a square.
    """
    if output.ndim == 4:
        first: Tensor = output.movedim(unit_axis(encoder, layer, output), 1)
        return first
    if output.ndim != 3:
        return None
    tokens = output[:, count_prefix_tokens(encoder) :]
    side = math.isqrt(tokens.shape[1])
    if side == 0 or side * side != tokens.shape[1]:
        return None
    return tokens.transpose(1, 2).reshape(len(tokens), -1, side, side)
