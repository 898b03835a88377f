"""timm's functions that rename official weights: each model's module has its own."""

import inspect
import io
import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from memlight.models.foreign.adapting import POSITIONS
from memlight.models.foreign.names import State

Filter = Callable[..., Any]

_NAMES = ("checkpoint_filter_fn", "_filter_fn")

_NOT_UNDERSTOOD = (AssertionError, AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError)
"""What timm's functions raise at tensors that are not of their model."""


@dataclass(frozen=True)
class Filtered:
    """What timm's function made of a part.

    Attributes:
        state: tensors under timm's names; not all need be the encoder's.
        lost: names of tensors that it left out, and that do something.
        words: what it is, for people.
    """

    state: State
    lost: list[str]
    words: str


def filter_of(encoder: nn.Module) -> Filter | None:
    """The function of the module of a timm model's class; None for other encoders, and models that have none."""
    module = type(encoder).__module__
    if not module.startswith("timm."):
        return None
    return next((found for name in _NAMES if (found := getattr(sys.modules[module], name, None))), None)


def filtered(convert: Filter, given: Mapping[str, Tensor], encoder: nn.Module, *, resample: bool) -> Filtered | None:
    """Rename a part's tensors as timm does; None where it does not know them, or changes nothing.

    Args:
        convert: timm's function; it may say something on standard output, which nobody wants to read.
        given: the part's tensors.
        encoder: not changed.
        resample: keep what it resampled to the encoder's size of images; else what it was given is kept.
    """
    arguments = inspect.signature(convert).parameters
    options: dict[str, Any] = {"adapt_layer_scale": True} if "adapt_layer_scale" in arguments else {}
    try:
        with redirect_stdout(io.StringIO()):
            made = convert(dict(given), *([encoder] if len(arguments) > 1 else []), **options)
    except _NOT_UNDERSTOOD:
        return None
    if not isinstance(made, Mapping) or not all(isinstance(tensor, Tensor) for tensor in made.values()):
        return None
    state = {str(name): tensor for name, tensor in made.items()}
    stretched = [name for name in state if _is_resampled(name, state[name], given)]
    words = "official names, as timm reads them"
    for name in stretched:
        if not resample or name == "patch_embed.proj.weight":
            state[name] = given.get(name, state[name].new_zeros(0))
    if resample and any(name != "patch_embed.proj.weight" for name in stretched):
        words += "; positions resampled to this size of images, as timm does"
    if {name: tensor.shape for name, tensor in state.items()} == {name: given[name].shape for name in given}:
        return None
    return Filtered(state, _lost(given, state), words)


def _is_resampled(name: str, tensor: Tensor, given: Mapping[str, Tensor]) -> bool:
    """Whether a tensor that depends on the size of the images has other numbers than were given."""
    if name in POSITIONS or name.endswith("relative_position_bias_table") or name == "patch_embed.proj.weight":
        sizes = {one.numel() for one in ([given[name]] if name in given else given.values())}
        class_token = tensor.shape[-1] if name in POSITIONS else 0
        return not {tensor.numel(), tensor.numel() + class_token} & sizes
    return False


def _lost(given: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> list[str]:
    """Biases of queries and values that the model has no place for, and are not zero.

    timm leaves them out of DINOv3's weights for a model without; of all but the smaller ones they are zero. Those of
    keys change nothing, and DINOv3 masks them.
    """
    lost = []
    for name, bias in given.items():
        if name.endswith(".attn.qkv.bias") and not {name, name.replace("qkv.bias", "q_bias")} & state.keys():
            queries, _, values = bias.chunk(3)
            if queries.any() or values.any():
                lost.append(name)
    return lost
