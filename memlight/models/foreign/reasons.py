"""Why nothing in a file fits, and what to do: what is only named otherwise is not called another architecture."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from memlight.models.foreign.adapting import POSITIONS, first_convolution, grid_of
from memlight.models.foreign.comparison import Part
from memlight.models.foreign.names import by_group, grouped

WITH_STEMS = ("resnet18", "resnet34", "resnet50")
"""Encoders that are built with either stem."""

ANOTHER = "Likely another architecture (deeper, shallower, another kind): name another `encoder`."


def several(fitting: list[Part], encoder: nn.Module) -> str:
    """What an error says where several parts fit."""
    first = fitting[0].prefix or "''"
    filled = f"{len(fitting)} parts of it fill {_name(encoder)} completely"
    return f"{filled}: {listed(fitting)}; say which with `prefix` {first}"


def none_fits(parts: list[Part], tensors: Mapping[str, Tensor], encoder: nn.Module) -> str:
    """What an error says where no part fits: what is missing, unexpected or of another shape, and the likely reason."""
    own = encoder.state_dict()
    if not parts:
        return (
            f"none of its tensors is named as in {_name(encoder)}; it holds {by_group(grouped(tensors).items())}, the "
            f"encoder {by_group(grouped(own).items())}. {likely_reason(encoder, tensors)}"
        )
    best = parts[0]
    problems = {"missing": best.missing, "unexpected": best.unexpected, "other shape": best.other_shape}
    said = "; ".join(f"{what}: {by_group(grouped(names).items())}" for what, names in problems.items() if names)
    beside = near(parts)[1:]
    others = f" Other parts can be named with `prefix`: {listed(beside)}." if beside else ""
    return (
        f"not the weights of {_name(encoder)}. {best.prefix or 'The top level'} of the file has {best.matched} of its "
        f"{len(own)} tensors; {said}. {likely_reason(encoder, tensors, best)}{others}"
    )


def near(parts: list[Part]) -> list[Part]:
    """The parts that come near the best one, which is the first."""
    return [part for part in parts if 2 * part.matched >= parts[0].matched]


def listed(parts: list[Part]) -> str:
    """Parts by name, with how many of the encoder's tensors each has."""
    return by_group((part.prefix or "''", part.matched) for part in parts)


def likely_reason(encoder: nn.Module, tensors: Mapping[str, Tensor], best: Part | None = None) -> str:
    """The most likely reason why nothing in a file fits, with the way out.

    Args:
        encoder: made by `memlight.models.encoders.build_encoder`.
        tensors: everything in the file.
        best: the part that fits best; None where no name is the encoder's.
    """
    if _is_lightly_generator(tensors):
        return (
            "Likely lightly's ResNetGenerator cut into nn.Sequential, which has no ReLU after its first norm: no "
            "encoder here computes the same; docs/ENCODERS.md shows how to measure a model of one's own in Python."
        )
    if best is None or best.missing or best.unexpected:
        return _of_names(encoder, tensors, best)
    own = encoder.state_dict()
    other = {name: (best.state[name].shape, own[name].shape) for name in best.other_shape}
    first = first_convolution(encoder)
    if other.keys() == {first} and len(other[first][0]) == 4 and other[first][0][1] != other[first][1][1]:
        return f"Its first convolution takes {other[first][0][1]} channels, and images have {other[first][1][1]}."
    if other.keys() == {"conv1.weight"}:
        return _stem(encoder, other["conv1.weight"][0][-1])
    for patches, positions in zip(("patch_embed.proj.weight", "conv_proj.weight"), POSITIONS, strict=True):
        if patches in other and other.keys() <= {patches, positions}:
            theirs, ours = (shape[-1] for shape in other[patches])
            return f"Its patches are {theirs} pixels wide, the encoder's {ours}: name another `encoder`."
        if other.keys() == {positions}:
            return _grid(encoder, *(shape[1] for shape in other[positions]))
    return "The same names in other sizes: name a wider or narrower `encoder`, or another `image_size`."


def _of_names(encoder: nn.Module, tensors: Mapping[str, Tensor], best: Part | None) -> str:
    """What names that are missing or unexpected mean: their shapes tell another network from other names."""
    own = encoder.state_dict()
    missing = list(own) if best is None else best.missing
    if best is not None and {name.partition(".")[0] for name in best.unexpected} == {"fc_norm"} and missing:
        return (
            "It was fine-tuned with the mean of the patches in the place of the class token (fc_norm), which no "
            "encoder of this name computes."
        )
    wanted = Counter(tuple(own[name].shape) for name in missing if own[name].dim() > 1)
    used = set() if best is None else best.used
    spare = Counter(tuple(tensor.shape) for name, tensor in tensors.items() if name not in used)
    if wanted and not wanted - spare:
        return (
            "What is missing has the shapes of what the file holds under other names, so it may be the same network: "
            "rename them as in the encoder, in the program that made the file."
        )
    if best is not None and missing and not best.unexpected and 2 * len(missing) < len(own):
        return "The file does not hold all of it: it was cut, or is of a network without these: name another `encoder`."
    return ANOTHER


def _stem(encoder: nn.Module, side: int) -> str:
    spec: Any = getattr(encoder, "spec")  # noqa: B009 -- build_encoder put it there
    name, stem = spec.name.rpartition(":")[2], {3: "cifar", 7: "imagenet"}.get(side)
    if stem is None or name not in WITH_STEMS:
        return f"Its first convolution is {side}x{side}: name another `encoder`."
    return f"Its first convolution is {side}x{side}: use `encoder={name}` `stem={stem}`."


def _grid(encoder: nn.Module, tokens: int, own_tokens: int) -> str:
    """Position embeddings of another grid of patches; they are resampled only for a size that was asked for."""
    size = int(getattr(encoder, "spec").input_size)  # noqa: B009 -- build_encoder put it there
    rows, columns, others = grid_of(encoder, own_tokens)
    side, patch = math.isqrt(max(0, tokens - others)), size // rows
    if side**2 != tokens - others:
        return (
            f"Its position embeddings have {tokens} entries, the encoder's {own_tokens}, and are of no square: name "
            "another `encoder`."
        )
    return (
        f"Its position embeddings are for {side}x{side} patches ({side * patch}-pixel images), the encoder's for "
        f"{rows}x{columns} ({size}-pixel images): use `image_size={side * patch}`."
    )


def _name(encoder: nn.Module) -> str:
    return str(getattr(getattr(encoder, "spec", None), "name", type(encoder).__name__))


def _is_lightly_generator(tensors: Iterable[str]) -> bool:
    """A first block at number 2 (torchvision's is at 4), with lightly's name for the shortcut."""
    names = list(tensors)
    return any(re.search(r"(^|\.)2\.0\.conv1\.weight$", name) for name in names) and any(
        re.search(r"(^|\.)[345]\.0\.shortcut\.0\.weight$", name) for name in names
    )
