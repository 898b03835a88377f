"""Why a file's tensors do not fit an encoder, in words and with the flag to change."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from torch import Tensor, nn

WITH_STEMS = ("resnet18", "resnet34", "resnet50")
"""Encoders that are built with either stem."""

_GROUPS = 6


def by_group(groups: Iterable[tuple[str, int]]) -> str:
    """Groups of tensors with their numbers, six at most: ``layer1 (12), fc (2)``."""
    listed = [f"{name} ({count})" for name, count in groups]
    more = f" and {len(listed) - _GROUPS} more" if len(listed) > _GROUPS else ""
    return ", ".join(listed[:_GROUPS]) + more


def likely_reason(
    encoder: nn.Module,
    tensors: Mapping[str, Tensor],
    found: Mapping[str, Tensor] = MappingProxyType({}),
    missing_or_unexpected: Sequence[str] = (),
) -> str:
    """The most likely reason why nothing in a file fits, with the way out.

    Args:
        encoder: made by `memlight.models.encoders.build_encoder`.
        tensors: everything in the file.
        found: tensors of the part that fits best, under the encoder's names.
        missing_or_unexpected: names that only the encoder has, or only this part.
    """
    if _is_lightly_generator(tensors):
        return (
            "Likely lightly's ResNetGenerator cut into nn.Sequential, which has no ReLU after its first norm: no "
            "encoder here computes the same; docs/ENCODERS.md shows how to measure a model of one's own in Python."
        )
    if not found or missing_or_unexpected:
        return "Likely another architecture (deeper, shallower, another kind): name another --encoder."
    own = encoder.state_dict()
    other = {name: (found[name].shape, own[name].shape) for name in found if found[name].shape != own[name].shape}
    if other.keys() == {"conv1.weight"}:
        return _stem(encoder, other["conv1.weight"][0][-1])
    for patches, positions in (("patch_embed.proj.weight", "pos_embed"), ("conv_proj.weight", "encoder.pos_embedding")):
        if patches in other and other.keys() <= {patches, positions}:
            theirs, ours = (shape[-1] for shape in other[patches])
            return f"Its patches are {theirs} pixels wide, the encoder's {ours}: name another --encoder."
        if other.keys() == {positions}:
            return _grid(encoder, *(shape[1] for shape in other[positions]))
    return "The same names in other sizes: name a wider or narrower --encoder, or another --image-size."


def _stem(encoder: nn.Module, side: int) -> str:
    spec: Any = getattr(encoder, "spec")  # noqa: B009 -- build_encoder put it there
    name, stem = spec.name.rpartition(":")[2], {3: "cifar", 7: "imagenet"}.get(side)
    if stem is None or name not in WITH_STEMS:
        return f"Its first convolution is {side}x{side}: name another --encoder."
    return f"Its first convolution is {side}x{side}: use --encoder {name} --stem {stem}."


def _grid(encoder: nn.Module, tokens: int, own_tokens: int) -> str:
    """Position embeddings of another grid of patches; they are not interpolated, which would change the encoder."""
    size = int(getattr(encoder, "spec").input_size)  # noqa: B009 -- build_encoder put it there
    patch = _patch_side(encoder)
    prefix = own_tokens - (size // patch) ** 2
    side = math.isqrt(max(0, tokens - prefix))
    if side**2 != tokens - prefix:
        return f"Its position embeddings have {tokens} entries, the encoder's {own_tokens}: name another --encoder."
    return (
        f"Its position embeddings are for {side}x{side} patches ({side * patch}-pixel images), the encoder's for "
        f"{size // patch}x{size // patch} ({size}-pixel images): use --image-size {side * patch}."
    )


def _patch_side(encoder: Any) -> int:
    convolution = encoder.patch_embed.proj if hasattr(encoder, "patch_embed") else encoder.conv_proj
    return int(convolution.kernel_size[0])


def _is_lightly_generator(tensors: Iterable[str]) -> bool:
    """A first block at number 2 (torchvision's is at 4), with lightly's name for the shortcut."""
    names = list(tensors)
    return any(re.search(r"(^|\.)2\.0\.conv1\.weight$", name) for name in names) and any(
        re.search(r"(^|\.)[345]\.0\.shortcut\.0\.weight$", name) for name in names
    )
