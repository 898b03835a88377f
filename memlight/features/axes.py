"""On which axis the channels of a layer's output are: the shape does not say, the kinds of the modules do.

Of ``(B, a, b)`` and larger outputs either axis may be the channels: a Conv1d gives ``(B, C, T)``, a Linear on tokens
``(B, T, C)``, and an activation gives whatever it was given.
"""

import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from memlight.features.layers import layer_place

CHANNELS_LAST_STAGES = ("SwinTransformerStage", "SwinTransformerV2Stage")
"""Class names of modules whose 4-D output is ``(B, H, W, C)`` though none of their own layers says so."""

_OVER_TIME = (
    *(nn.Conv1d, nn.ConvTranspose1d, nn.BatchNorm1d, nn.InstanceNorm1d, nn.Dropout1d),
    *(nn.MaxPool1d, nn.AvgPool1d, nn.LPPool1d, nn.AdaptiveMaxPool1d, nn.AdaptiveAvgPool1d),
    *(nn.ConstantPad1d, nn.ReflectionPad1d, nn.ReplicationPad1d, nn.CircularPad1d),
)
"""Modules that take and give ``(B, C, T)``."""

_OVER_VOLUMES = (
    *(nn.Conv3d, nn.ConvTranspose3d, nn.BatchNorm3d, nn.InstanceNorm3d, nn.Dropout3d),
    *(nn.MaxPool3d, nn.AvgPool3d, nn.AdaptiveMaxPool3d, nn.AdaptiveAvgPool3d),
)
"""Modules that take and give ``(B, C, T, H, W)``."""

_SECOND = (*_OVER_TIME, *_OVER_VOLUMES, nn.GroupNorm, nn.SyncBatchNorm)
_LAST = (nn.Linear, nn.LayerNorm, nn.RMSNorm, nn.Embedding, nn.RNNBase, nn.MultiheadAttention)


def unit_axis(model: nn.Module, layer: str, x: Tensor, flow: "ChannelFlow | None" = None) -> int:
    """The axis of the channels in a layer's value.

    The module says it by its kind. Where it does not (an activation, a sum, a block), ``(B, H, W, C)`` and
    ``(B, C, H, W)`` are told apart by what stands around the module, and values of 3 or 5 axes by what ran before it,
    see `ChannelFlow`; where nothing says otherwise the last axis is the channels.

    Args:
        model: the network.
        layer: name of the layer.
        x: what it gives (or takes, with ``@in``).
        flow: what has run in this forward; None leaves that out.
    """
    path, _ = layer_place(model, layer)
    module = model.get_submodule(path)
    if x.ndim != 4:
        axis = _told(module) if x.ndim > 2 else -1
        if axis is None and flow is not None:
            axis = flow.axis(module, x)
        return 1 if axis == 1 else x.ndim - 1
    channels_last = _channels_last(module)
    if channels_last is None:  # an activation or dropout: like what stands around it
        channels_last = _channels_last(model.get_submodule(path.rpartition(".")[0]))
    return 3 if channels_last else 1


class _Seen(NamedTuple):
    """The output of a module that says where its channels are."""

    tensor: "weakref.ref[Tensor]"
    shape: torch.Size
    axis: int


class ChannelFlow:
    """Where the channels are, as a forward goes on: from module to module that says so, and to all between them.

    What a module gives that says nothing itself is asked for in this order. Is it an output of one that does, or a view
    of one, as after a transpose? Then the axis is followed by its strides. Else the last module that said where its
    channels were, with as many axes, decides: the channels are on the axis with as many entries, and where both or
    neither have so many, on the same one.

    Args:
        model: the network.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.seen: list[_Seen] = []

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Follow forwards within this block; a model whose outputs are all tokens or maps is not watched."""
        if not any(isinstance(module, (*_OVER_TIME, *_OVER_VOLUMES)) for module in self.model.modules()):
            yield
            return
        with ExitStack() as stack:
            for module in self.model.modules():
                if _told(module) is not None:
                    stack.callback(module.register_forward_hook(self._note).remove)
            yield

    def begin(self) -> None:
        """Another forward begins."""
        self.seen.clear()

    def axis(self, module: nn.Module, x: Tensor) -> int | None:
        """The axis of the channels of what a module gives or takes; None where nothing tells."""
        alike = [seen for seen in reversed(self.seen) if len(seen.shape) == x.ndim]
        for seen in alike:
            if (axis := _followed(seen, x)) is not None:
                return axis
        if not alike:
            told = (_told(inner) for inner in module.modules())
            return next((axis for axis in told if axis is not None), None)
        last = alike[0]
        channels = last.shape[last.axis]
        as_many = [axis for axis in (1, x.ndim - 1) if x.shape[axis] == channels]
        return as_many[0] if len(as_many) == 1 else last.axis

    def _note(self, module: nn.Module, _: object, output: Any) -> None:
        y = output[0] if isinstance(output, tuple) and output else output
        if isinstance(y, Tensor) and y.ndim in (3, 5):
            self.seen.append(_Seen(weakref.ref(y), y.shape, 1 if _told(module) == 1 else y.ndim - 1))


def _told(module: nn.Module) -> int | None:
    """1 for modules whose channels are the second axis, -1 for the last, None for those that do not say."""
    if isinstance(module, nn.LayerNorm):
        return 1 if "1d" in type(module).__name__ else -1 if len(module.normalized_shape) == 1 else None
    if isinstance(module, _SECOND):
        return 1
    return -1 if isinstance(module, _LAST) else None


def _followed(seen: _Seen, x: Tensor) -> int | None:
    """The axis of ``x`` that runs over the same memory as the channels of an output; None if it is not that output."""
    y = seen.tensor()
    if y is None:
        return None
    if y is x:
        return seen.axis
    if x.numel() != y.numel() or x.untyped_storage().data_ptr() != y.untyped_storage().data_ptr():
        return None
    step = y.stride(seen.axis), y.shape[seen.axis]
    same = [axis for axis in (1, x.ndim - 1) if (x.stride(axis), x.shape[axis]) == step]
    return same[0] if len(same) == 1 else None


def _channels_last(module: nn.Module) -> bool | None:
    """Whether 4-D values of a module are ``(B, H, W, C)``; None where neither it nor its children tell."""
    kind = type(module).__name__
    if isinstance(module, nn.LayerNorm):
        return "2d" not in kind
    if isinstance(module, nn.Linear | nn.Conv2d | nn.BatchNorm2d | nn.GroupNorm) or kind in CHANNELS_LAST_STAGES:
        return isinstance(module, nn.Linear) or kind in CHANNELS_LAST_STAGES
    if isinstance(getattr(module, "norm2", None), nn.LayerNorm):
        return "2d" not in type(module.norm2).__name__
    if kind == "Permute":  # torchvision's
        dims: Any = module.dims
        return list(dims) != [0, 3, 1, 2]
    children = list(module.children())
    if isinstance(module, nn.Sequential) and children and (last := _channels_last(children[-1])) is not None:
        return last
    if any(isinstance(child, nn.Conv2d) for child in children):
        return False
    return True if any(isinstance(child, nn.Linear) for child in children) else None
