"""Tensors that fit after a step that is said in words: one-channel images, positions of another grid, no biases."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from memlight.models.foreign.names import State

POSITIONS = ("pos_embed", "encoder.pos_embedding")
"""Names of an encoder's learned positions: timm's and torchvision's."""

_OFFSET = 0.1
"""What DINO's and DINOv2's code adds to the side of the new grid before it divides by that of the old one."""


def adapted(
    state: State, own: Mapping[str, Tensor], encoder: nn.Module, *, resample: bool
) -> tuple[State, tuple[str, ...]]:
    """A part's tensors, with what can be made to fit.

    Args:
        state: under the encoder's names.
        own: the encoder's tensors.
        encoder: not changed.
        resample: whether position embeddings of another grid of patches are resampled.

    Returns:
        The tensors, and what was done to them, for people.
    """
    notes = []
    convolution = first_convolution(encoder)
    if convolution in state and _is_grey(state[convolution], own[convolution]):
        state = state | {convolution: state[convolution].repeat(1, 3, 1, 1) / 3}
        notes.append("its one-channel first convolution takes the mean of the three channels")
    biases = [name for name in own if name.endswith("attn.qkv.bias")]
    if biases and not any(name in state for name in biases) and all(f"{n[:-4]}weight" in state for n in biases):
        state = state | {name: torch.zeros_like(own[name]) for name in biases}
        notes.append("queries, keys and values have no biases there: zeros")
    for name in POSITIONS:
        if resample and name in state and name in own and state[name].shape != own[name].shape:
            made = _resampled(state[name], own[name], encoder)
            if made is not None:
                state = state | {name: made[0]}
                notes.append(made[1])
    return state, tuple(notes)


def first_convolution(encoder: nn.Module) -> str:
    """The name of the weight that sees the images; empty where no convolution does."""
    names = (f"{path}.weight" for path, module in encoder.named_modules() if isinstance(module, nn.Conv2d))
    return next(names, "")


def _is_grey(theirs: Tensor, own: Tensor) -> bool:
    return theirs.dim() == 4 == own.dim() and theirs.shape == (own.shape[0], 1, *own.shape[2:]) and own.shape[1] == 3


def grid_of(encoder: Any, tokens: int) -> tuple[int, int, int]:
    """Rows and columns of an encoder's patches, and how many of its positions are of no patch.

    Args:
        encoder: a ViT of timm or torchvision.
        tokens: how many positions it has.
    """
    if hasattr(encoder, "patch_embed"):
        rows, columns = encoder.patch_embed.grid_size
    else:
        rows = columns = encoder.image_size // encoder.patch_size
    return rows, columns, tokens - rows * columns


def _resampled(theirs: Tensor, own: Tensor, encoder: nn.Module) -> tuple[Tensor, str] | None:
    """Positions for another grid, and how they were made; None where their grid is not a square."""
    rows, columns, others = grid_of(encoder, own.shape[1])
    side = math.isqrt(max(0, theirs.shape[1] - others))
    if theirs.dim() != 3 or others < 0 or side == 0 or side**2 != theirs.shape[1] - others:
        return None
    if theirs.shape[2] != own.shape[2] or not theirs.is_floating_point():
        return None
    grid = theirs[:, others:].float().reshape(1, side, side, -1).permute(0, 3, 1, 2)
    source = _with_an_offset(encoder)
    if source:
        scale = [(rows + _OFFSET) / side, (columns + _OFFSET) / side]
        made = nn.functional.interpolate(grid, scale_factor=scale, mode="bicubic")
        how = f"as {source}'s code does: bicubic, for sides longer by {_OFFSET:g} patches, without antialiasing"
    else:
        made = nn.functional.interpolate(grid, size=(rows, columns), mode="bicubic", antialias=True)
        how = "bicubic, with antialiasing"
    if made.shape[2:] != (rows, columns):
        return None
    positions = torch.cat([theirs[:, :others].float(), made.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)
    words = f"positions resampled from {side}x{side} to {rows}x{columns} patches ({how})"
    return positions.to(theirs.dtype), words


def _with_an_offset(encoder: Any) -> str | None:
    """The program whose way of resampling an encoder's positions adds an offset; DINOv2 with registers does not."""
    name = str(getattr(getattr(encoder, "spec", None), "name", ""))
    if "dinov2" in name:
        return None if getattr(encoder, "reg_token", None) is not None else "DINOv2"
    return "DINO" if name.endswith(".dino") else None
