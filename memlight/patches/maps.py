"""The deepest place in a network that still knows positions: a feature map, or the patch tokens of a ViT."""

import math
from collections import Counter
from typing import Any

from torch import Tensor, nn

from memlight.errors import UserError
from memlight.features.discovery import first_tensor, forward_blank, watching
from memlight.features.hooks import count_prefix_tokens, unit_axis


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
        found = None if x is None else as_map(encoder, names[module], x)
        if found is not None:
            side = min(found.shape[2:])
            largest = max(largest, side)
            if side >= grid:
                maps.append(module)

    with watching(names, begin, end):
        forward_blank(encoder, image_size)
    once = [module for module in maps if times[module] == 1]
    if not once:
        raise UserError(
            f"--grid {grid}: the finest map that the extractor makes of {image_size}-pixel images has {largest} x "
            f"{largest} positions; use a smaller --grid, a larger --image-size, or --mode crop"
        )
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
