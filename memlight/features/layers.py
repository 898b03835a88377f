"""Names of layers, and with which other layer each one is compared.

A layer is a module path and means the module's output (``layer3.1.conv2``), or its input with ``@in`` behind it:
``blocks.3.norm2@in`` is the residual sum after the attention of a transformer block. A model may have names of its own
for some of its layers (attribute ``layer_paths``, as VAR's encoder has); both names mean the same.
"""

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase

from torch import nn

from memlight.errors import UserError

INPUT = "@in"
"""Behind a module path: the input of the module instead of its output."""

_SUFFIXES = (INPUT,)
_STREAMS = (f"norm2{INPUT}", f"ln_2{INPUT}")
_IN_BLOCK = re.compile(rf"(.+)\.(?:attn|self_attention|{'|'.join(_STREAMS)})")
_MLP_SIDE = ("norm2", "ln_2", "mlp", "ls2", "drop_path2")


def split_layer(layer: str) -> tuple[str, str]:
    """``blocks.0.norm2@in`` -> (``blocks.0.norm2``, ``@in``); the suffix of an output is empty."""
    path, at, suffix = layer.partition("@")
    return path, at + suffix


def layer_place(model: nn.Module, layer: str) -> tuple[str, str]:
    """The module path and suffix of a layer that may go by a name of the model's own."""
    return split_layer(_own_names(model).get(layer, layer))


def _own_names(model: nn.Module) -> Mapping[str, str]:
    """The attribute ``layer_paths``; empty where a model means something else by that name."""
    paths = getattr(model, "layer_paths", None)
    return paths if isinstance(paths, Mapping) else {}


def declared_layers(model: nn.Module) -> list[str] | None:
    """The layers that a model names itself, as the attribute ``layer_names``; None where that is no list of layers."""
    names = getattr(model, "layer_names", None)
    if not isinstance(names, list | tuple) or not names or not all(isinstance(name, str) for name in names):
        return None
    known = {name for name, _ in model.named_modules()}
    return list(names) if all(layer_place(model, name)[0] in known for name in names) else None


def choose_layers(words: Sequence[str], known: Sequence[str]) -> list[str]:
    """Layers by name and by pattern: ``layer4.*`` stands for all layers of that form, in their order.

    Args:
        words: names, which are taken as they are, and patterns (``*`` any characters, dots among them; ``?`` one;
            ``[12]`` one of these).
        known: what a pattern chooses among.

    Returns:
        The named layers in the order given, those of a pattern in the order of ``known``, each once.

    Raises:
        UserError: a pattern that matches nothing; lists the nearest.
    """
    chosen: list[str] = []
    for word in words:
        if word in known or not is_pattern(word):
            chosen.append(word)
            continue
        found = [layer for layer in known if fnmatchcase(layer, word)]
        if not found:
            nearest = get_close_matches(word, known, n=5, cutoff=0.3) or known[:5]
            why = f"matches none of the {len(known)} layers; nearest: {', '.join(nearest)}"
            raise UserError("layers", word, why)
        named = {other for other in words if not is_pattern(other)}
        chosen += [layer for layer in found if layer not in chosen and layer not in named]
    return chosen


def with_patterns(words: Sequence[str], known: Sequence[str]) -> list[str]:
    """Words in which commas join layers, with the layers of a pattern in its place: ``a.*,b`` as ``a.0,a.1,b``.

    Raises:
        UserError: as `choose_layers`.
    """
    lists = [word.split(",") for word in words]
    return [",".join(choose_layers(names, known) if any(map(is_pattern, names)) else names) for names in lists]


def is_pattern(word: str) -> bool:
    """Whether a word stands for several layers."""
    return any(character in word for character in "*?[")


def check_layers(model: nn.Module, layers: Sequence[str]) -> None:
    """Refuse layers the model does not have.

    Raises:
        UserError: no layer at all, one named twice, or an unknown one (lists the nearest names).
    """
    known = [name for name, _ in model.named_modules() if name]
    names = _own_names(model)
    if not layers:
        raise UserError("layers", None, "names no layer", "leave it out to measure every layer")
    for position, layer in enumerate(layers):
        path, suffix = layer_place(model, layer)
        if suffix and suffix not in _SUFFIXES:
            way_out = f"write {path} for its output, {path}{INPUT} for its input"
            raise UserError("layers", layer, "no such place in a layer", way_out)
        if path not in known:
            nearest = get_close_matches(path, [*names, *known], n=5, cutoff=0.3) or known[:5]
            raise UserError("layers", layer, f"no such layer; nearest: {', '.join(nearest)}")
        if layer in layers[:position]:
            raise UserError("layers", layer, "named twice")


def delta_references(layers: Sequence[str]) -> list[int | None]:
    """The row that each layer's LayerMem is compared with to give its delta ([P] eq 4; Table 10 for ViTs).

    Inside a transformer block that is the residual stream which feeds the layer: the previous block's output for the
    attention and for the sum after it (``norm2@in``), and that sum for the MLP's hidden layer, the MLP and the block's
    output. The first block is fed by the layer before it in the list. Everywhere else it is the row before.

    Args:
        layers: names in execution order.

    Returns:
        A row for each layer; None for the first one, and where the stream is not among ``layers``.
    """
    rows = {layer: row for row, layer in enumerate(layers)}
    blocks = {match[1] for match in map(_IN_BLOCK.fullmatch, layers) if match}
    return [_reference(layer, rows, blocks) for layer in layers]


def _reference(layer: str, rows: dict[str, int], blocks: set[str]) -> int | None:
    around = [block for block in blocks if layer == block or layer.startswith(f"{block}.")]
    if not around:
        return rows[layer] - 1 if rows[layer] else None
    block = max(around, key=len)
    inside = layer[len(block) + 1 :]
    if not inside or (inside not in _STREAMS and inside.split(".")[0].split("@")[0] in _MLP_SIDE):
        return next((rows[f"{block}.{stream}"] for stream in _STREAMS if f"{block}.{stream}" in rows), None)
    return _stream_into(block, rows)


def _stream_into(block: str, rows: dict[str, int]) -> int | None:
    """The previous block's output by its number; what runs before the block where it has no predecessor."""
    numbered = re.fullmatch(r"(.*?)(\d+)", block)
    if numbered and int(numbered[2]):
        return rows.get(f"{numbered[1]}{int(numbered[2]) - 1}")
    first = min(row for layer, row in rows.items() if layer == block or layer.startswith(f"{block}."))
    return first - 1 if first else None
