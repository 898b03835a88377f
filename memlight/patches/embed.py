"""From pictures to one vector a patch."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from memlight.errors import UserError
from memlight.features.discovery import evaluating
from memlight.features.hooks import capture
from memlight.patches.grid import patch_boxes
from memlight.patches.maps import as_map, deepest_map

Mode = Literal["crop", "token"]
Precision = Literal["float32", "bfloat16", "float16"]
Channels = tuple[float, float, float]
Embed = Callable[[Tensor], Tensor]
"""``uint8 (B, 3, H, W)`` on any device -> ``float32 (B, grid ** 2, dim)`` on the encoder's."""


@dataclass(frozen=True)
class EmbedOptions:
    """How a patch becomes a vector.

    Attributes:
        mode: ``crop`` cuts each patch out of the picture, resizes it to ``input_size`` and embeds it alone, by the
            encoder's output; ``token`` embeds the whole picture once and averages the deepest map that is fine enough
            over the patches, so that a patch's vector knows its surroundings.
        grid: patches on a side.
        input_size: side of what the encoder is given, pixels.
        mean: subtracted from each channel in [0, 1].
        std: each channel is divided by it after that.
        precision: of the encoder's arithmetic (autocast).
    """

    mode: Mode
    grid: int
    input_size: int
    mean: Channels
    std: Channels
    precision: Precision = "float32"


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
def embedding(encoder: nn.Module, options: EmbedOptions) -> Iterator[Embedder]:
    """Make an encoder embed patches while the block lasts; it is left as it was.

    Args:
        encoder: maps ``(B, 3, H, W)`` to ``(B, F)``, or to maps ``(B, F, h, w)`` which ``crop`` averages.
        options: how.

    Raises:
        UserError: the encoder has no map so fine (``token``).
    """
    weight = next(encoder.parameters())
    mean, std = (torch.tensor(v, device=weight.device).view(3, 1, 1) for v in (options.mean, options.std))
    dtype = getattr(torch, options.precision)

    def forward(pictures: Tensor) -> Tensor:
        with torch.autocast(weight.device.type, dtype, enabled=dtype != torch.float32):
            output: Tensor = encoder((pictures - mean) / std)
        return output.float()

    def crops(images: Tensor) -> Tensor:
        pictures = images.to(weight.device, non_blocking=True).float() / 255
        height, width = images.shape[2:]
        boxes = patch_boxes(height, width, options.grid)
        cut = [_resized(pictures[:, :, b.top : b.bottom, b.left : b.right], options.input_size) for b in boxes]
        output = forward(torch.stack(cut, 1).flatten(0, 1))
        vectors = output.flatten(2).mean(2) if output.ndim > 2 else output
        return vectors.reshape(len(images), len(boxes), -1)

    if options.mode == "crop":
        with torch.no_grad(), evaluating(encoder):
            yield Embedder(crops, None, _dim(crops, options))
        return
    layer = deepest_map(encoder, options.grid, options.input_size)

    def pooled(output: Tensor) -> Tensor:
        found = as_map(encoder, layer, output)
        assert found is not None, "it was one when the layer was chosen"
        return adaptive_avg_pool2d(found.float(), options.grid)

    with torch.no_grad(), evaluating(encoder), capture(encoder, [layer], pooled) as captured:

        def tokens(images: Tensor) -> Tensor:
            pictures = images.to(weight.device, non_blocking=True).float() / 255
            forward(_resized(pictures, options.input_size))
            return captured[layer].flatten(2).transpose(1, 2)

        yield Embedder(tokens, layer, _dim(tokens, options))


def require_fitting(options: EmbedOptions, height: int, width: int) -> None:
    """Refuse a grid with more patches than the pictures have pixels.

    Raises:
        UserError: says how many there are.
    """
    if options.grid > min(height, width):
        raise UserError(f"--grid {options.grid}: the pictures have {height} x {width} pixels; use a smaller one.")


def _resized(pictures: Tensor, side: int) -> Tensor:
    """Bilinear, antialiased where it makes smaller."""
    if pictures.shape[2:] == (side, side):
        return pictures
    return interpolate(pictures, (side, side), mode="bilinear", align_corners=False, antialias=True)


def _dim(embed: Embed, options: EmbedOptions) -> int:
    blank = torch.zeros(1, 3, options.input_size, options.input_size, dtype=torch.uint8)
    return embed(blank).shape[2]
