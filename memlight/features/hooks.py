"""What the layers of a network compute: captured with hooks, reduced on the spot.

A layer is a module path (``layer3.1.conv2``), or one with ``@in`` for the input (see `memlight.features.layers`); a
unit is a channel of it.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from memlight.errors import UserError
from memlight.features.axes import ChannelFlow, unit_axis
from memlight.features.discovery import Inputs, first_tensor, forward_blank, uncompiled
from memlight.features.layers import check_layers, layer_place

Reduce = Literal["unit", "flat", "none"]
Activation = Literal["identity", "abs", "relu", "abs_of_mean"]
Tokens = Literal["mean", "patch", "cls"]

LATE_CLASS_TOKEN = ("Cait", "Xcit")
"""Class names of timm models that count a class token which most of their blocks do not have yet."""


class LayerSize(NamedTuple):
    """How large a layer's output is.

    Attributes:
        units: its channels.
        shape: of the output for one image or one example, without the batch.
    """

    units: int
    shape: tuple[int, ...]


def layer_sizes(
    model: nn.Module,
    layers: Sequence[str],
    image_size: int | None = None,
    *,
    example_inputs: Inputs | None = None,
) -> dict[str, LayerSize]:
    """Units and size of each layer's output, from one forward; the model is left bit-identical.

    Args:
        model: any network.
        layers: module paths.
        image_size: image side in pixels; None takes ``model.spec.input_size``.
        example_inputs: for models of something else than images, see `memlight.features.discovery.list_layers`.
    """

    def shape(x: Tensor) -> Tensor:
        return torch.tensor(x.shape[1:])

    with capture(model, layers) as captured, capture(model, layers, shape) as shapes:
        forward_blank(model, image_size, example_inputs=example_inputs)
        return {layer: LayerSize(captured[layer].shape[1], tuple(shapes[layer].tolist())) for layer in layers}


def count_units(
    model: nn.Module,
    layers: Sequence[str],
    image_size: int | None = None,
    *,
    example_inputs: Inputs | None = None,
) -> dict[str, int]:
    """Count the units (channels) of each layer with one forward; see `layer_sizes`."""
    sizes = layer_sizes(model, layers, image_size, example_inputs=example_inputs)
    return {layer: size.units for layer, size in sizes.items()}


def check_finite(*captured: Mapping[str, Tensor]) -> None:
    """Refuse NaN and infinity in what was captured; one wait for the device however many layers.

    Args:
        captured: tensors by layer, of one encoder or of several that have the same layers.

    Raises:
        UserError: names the first layer, in the order of the first dictionary that has it, that is not finite.
    """
    layers = list(dict.fromkeys(layer for values in captured for layer in values))
    if not layers:
        return
    per_layer = [[values[layer].isfinite().all() for values in captured if layer in values] for layer in layers]
    finite = torch.stack([torch.stack(of_layer).all() for of_layer in per_layer]).tolist()
    for layer, fine in zip(layers, finite, strict=True):
        if not fine:
            raise UserError(
                "encoder",
                None,
                f"layer {layer} gives NaN or infinite activations; the encoder has diverged, or its input is not "
                "finite. Use an earlier checkpoint or train with a lower learning rate",
            )


@contextmanager
def capture(
    model: nn.Module,
    layers: Sequence[str],
    reduce: Reduce | Callable[[Tensor], Tensor] = "unit",
    activation: Activation = "abs",
    tokens: Tokens = "mean",
) -> Iterator[dict[str, Tensor]]:
    """Read layers while the model runs, in a ``with``: ``out[layer]`` after ``model(x)``, reduced inside the hook.

    The dictionary is emptied when a forward of ``model`` begins and holds every layer when it ends. Nothing the
    model computes changes; in-place activations after a layer do not reach what was captured; hooks are gone after
    the block, whatever happened in it. Gradients flow unless they are switched off. A compiled model runs
    uncompiled inside the block, since compiled code does not see new hooks.

    Args:
        model: the network, of images or of anything else; call this object, not one of its methods.
        layers: module paths, each run exactly once per forward.
        reduce: ``unit`` gives ``(B, U)``, the mean over positions of the activation of each channel; ``flat`` gives
            ``(B, D)`` with every position; ``none`` a copy of the output; a function is called on the raw output
            inside the hook, and its result is kept. ``unit`` and ``flat`` are float32 whatever the autocast.
        activation: for ``unit``. On every element before the mean: ``identity`` (Wang et al., after ReLU), ``abs``
            (Jafari, for signed activations), ``relu``. ``abs_of_mean``: on the mean.
        tokens: for ``unit`` on ``(B, T, C)``: the ``mean`` over all tokens, over ``patch`` tokens, or ``cls``. Values
            ``(B, C, T)``, as a Conv1d gives them, are no tokens: there the mean is over all positions.

    Raises:
        UserError: unknown layer, or ``tokens`` the model does not have.
        ValueError: a layer runs never or twice in a forward or outside one, does not return a tensor, or its
            first axis is not the batch.
    """
    check_layers(model, layers)
    reduction = reduce if callable(reduce) else None
    if reduction is None and reduce not in get_args(Reduce):
        raise ValueError(f"reduce={reduce!r}: use one of {get_args(Reduce)} or a function")
    if activation not in get_args(Activation):
        raise UserError("activation", activation, f"use one of {', '.join(get_args(Activation))}")
    positions = _token_positions(model, tokens)
    captured: dict[str, Tensor] = {}
    flow = ChannelFlow(model)
    running = False
    batch_size: int | None = None

    def begin(_: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        nonlocal running, batch_size
        captured.clear()
        flow.begin()
        running = True
        first = first_tensor((inputs, keywords))
        batch_size = None if first is None or first.ndim == 0 else first.shape[0]

    def keep(layer: str, value: Any) -> None:
        x = first_tensor(value)
        if not running:
            raise ValueError(f"layer {layer} ran outside a forward of the model; call the model itself")
        if layer in captured:
            raise ValueError(f"layer {layer} ran twice in one forward, so its output is not one thing; leave it out")
        if x is None:
            raise ValueError(f"layer {layer} gives {type(value).__name__}, not a tensor; leave it out")
        if batch_size not in (None, x.shape[0]):
            raise ValueError(f"layer {layer}: first axis is {x.shape[0]}, not the batch of {batch_size}")
        if reduction is not None:
            captured[layer] = _own(reduction(x), x)
        elif reduce == "unit":
            captured[layer] = _unit_means(x, unit_axis(model, layer, x, flow), activation, positions)
        elif reduce == "flat":
            captured[layer] = x.flatten(1).to(_accumulator(x), copy=True)
        else:
            captured[layer] = x.clone()

    def end(*_: object) -> None:
        nonlocal running
        running = False
        missed = [layer for layer in layers if layer not in captured]
        if missed:
            raise ValueError(f"layers that did not run in this forward: {', '.join(missed)}")

    with ExitStack() as stack:
        stack.enter_context(uncompiled(model))
        stack.callback(model.register_forward_pre_hook(begin, with_kwargs=True).remove)
        if reduce == "unit":
            stack.enter_context(flow.watching())
        for layer in layers:
            stack.callback(_hook(model, layer, keep).remove)
        stack.callback(model.register_forward_hook(end).remove)
        yield captured


def _unit_means(x: Tensor, unit_axis: int, activation: Activation, positions: slice) -> Tensor:
    """``(B, U)``: mean over positions of the activation of each unit; accumulated in at least float32."""
    if x.ndim == 3 and unit_axis == 2:
        x = x[:, positions]
    dtype = _accumulator(x)
    axes = [axis for axis in range(1, x.ndim) if axis != unit_axis]
    if not axes:
        x = x.to(dtype, copy=True)
        return x if activation == "identity" else x.relu() if activation == "relu" else x.abs()
    if activation == "abs":
        return _mean_abs(x, axes, dtype)
    mean = (x.relu() if activation == "relu" else x).mean(axes, dtype=dtype)
    return mean.abs() if activation == "abs_of_mean" else mean


def _mean_abs(x: Tensor, axes: list[int], dtype: torch.dtype) -> Tensor:
    """Mean of ``|x|``: on an accelerator read once, without a temporary; on the CPU the temporary is 4x faster."""
    if x.device.type == "cpu":
        return x.abs().mean(axes, dtype=dtype)
    count = math.prod(x.shape[axis] for axis in axes)
    total: Tensor = torch.linalg.vector_norm(x, ord=1, dim=axes, dtype=dtype)
    return total / count


def _hook(model: nn.Module, layer: str, keep: Callable[[str, Any], None]) -> RemovableHandle:
    path, suffix = layer_place(model, layer)
    module = model.get_submodule(path)
    if suffix:
        return module.register_forward_pre_hook(
            lambda _, inputs, keywords: keep(layer, (inputs, keywords)), with_kwargs=True
        )
    return module.register_forward_hook(lambda _, __, output: keep(layer, output))


def _token_positions(model: nn.Module, tokens: Tokens) -> slice:
    if tokens not in get_args(Tokens):
        raise UserError("tokens", tokens, f"use one of {', '.join(get_args(Tokens))}")
    if tokens == "mean":
        return slice(None)
    prefix = count_prefix_tokens(model)
    if not prefix or (tokens == "cls" and getattr(model, "cls_token", True) is None):
        raise UserError("tokens", tokens, "this encoder has no class token", "use `tokens='mean'`")
    return slice(prefix, None) if tokens == "patch" else slice(0, 1)


def count_prefix_tokens(model: nn.Module) -> int:
    """How many tokens stand before the patches in every block: class token, distillation token, registers."""
    if type(model).__name__ in LATE_CLASS_TOKEN:
        return 0
    if isinstance(getattr(model, "class_token", None), nn.Parameter):  # torchvision
        return 1
    return int(getattr(model, "num_prefix_tokens", 0))


def _accumulator(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def _own(result: Tensor, output: Tensor) -> Tensor:
    """``result``, copied when it is a view of ``output``, which the model may overwrite in place."""
    shared = result.untyped_storage().data_ptr() == output.untyped_storage().data_ptr()
    return result.clone() if shared else result
