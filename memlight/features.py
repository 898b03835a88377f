"""Which layers a network has, and what they compute: discovery in execution order, capture with hooks.

A layer is a module path (``layer3.1.conv2``); a unit is a channel of a layer's output.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from difflib import get_close_matches
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from memlight.errors import UserError

Reduce = Literal["unit", "flat", "none"]
Activation = Literal["identity", "abs", "relu", "abs_of_mean"]
Tokens = Literal["mean", "patch", "cls"]

RESIDUAL_BLOCKS = (
    *("BasicBlock", "Bottleneck"),  # ResNets of torchvision and timm
    *("Block", "EvaBlock", "EncoderBlock"),  # ViTs of timm and torchvision
    *("ConvNeXtBlock", "CNBlock", "SwinTransformerBlock", "SwinTransformerV2Block"),
)
"""Class names of blocks whose output is a residual sum."""

CHANNELS_LAST_BLOCKS = (
    *("SwinTransformerBlock", "SwinTransformerV2Block"),
    *("SwinTransformerStage", "SwinTransformerV2Stage", "PatchMerging"),
)
"""Class names of blocks whose 4-D output is ``(B, H, W, C)``."""

_BLANK_BATCH = 2


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model in eval mode, and every module back in the mode it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def list_layers(model: nn.Module, image_size: int | None = None) -> list[str]:
    """Name the layers worth measuring, in the order in which they run.

    A model that says so itself (attribute ``layer_names``, as ResNet9 does) is believed. For any other: every Conv2d
    and Linear leaf and every residual block (its output, the sum) that one forward of two blank images reaches
    exactly once. Left out are the classifier head (a Linear whose output the model returns, in models that
    ``build_encoder`` did not make) and modules whose first axis is not the batch, such as window attention.

    The model is left bit-identical: weights, buffers, mode, and the state of the random generators.

    Args:
        model: any network that maps ``(B, 3, H, W)`` to a tensor.
        image_size: image side in pixels; None takes ``model.spec.input_size``.
    """
    declared = getattr(model, "layer_names", None)
    if declared is not None:
        return list(declared)
    names = {
        module: name
        for name, module in model.named_modules()
        if name and (isinstance(module, nn.Conv2d | nn.Linear) or type(module).__name__ in RESIDUAL_BLOCKS)
    }
    calls: list[tuple[nn.Module, Any]] = []
    with ExitStack() as stack:
        for module in names:
            handle = module.register_forward_hook(lambda module, _, output: calls.append((module, output)))
            stack.callback(handle.remove)
        result = _forward_blank(model, image_size)
    is_encoder = hasattr(model, "spec")
    times = Counter(module for module, _ in calls)
    return [
        names[module]
        for module, output in calls
        if times[module] == 1
        and isinstance(output, Tensor)
        and output.shape[0] == _BLANK_BATCH
        and (is_encoder or output is not result or not isinstance(module, nn.Linear))
    ]


def count_units(model: nn.Module, layers: Sequence[str], image_size: int | None = None) -> dict[str, int]:
    """Count the units (channels) of each layer with one blank forward; the model is left bit-identical."""
    with capture(model, layers) as captured:
        _forward_blank(model, image_size)
        return {layer: captured[layer].shape[1] for layer in layers}


def check_layers(model: nn.Module, layers: Sequence[str], flag: str = "--layers") -> None:
    """Refuse layers the model does not have.

    Raises:
        UserError: no layer at all, one named twice, or an unknown one (lists the nearest names).
    """
    known = [name for name, _ in model.named_modules() if name]
    if not layers:
        raise UserError(f"{flag}: names no layer; leave it out to measure every layer")
    for position, layer in enumerate(layers):
        if layer not in known:
            nearest = get_close_matches(layer, known, n=5, cutoff=0.3) or known[:5]
            raise UserError(f"{flag} {layer}: no such layer; nearest: {', '.join(nearest)}")
        if layer in layers[:position]:
            raise UserError(f"{flag} {layer}: named twice")


def check_finite(values: Mapping[str, Tensor], flag: str = "--run") -> None:
    """Refuse NaN and infinity in what was captured; one wait for the device however many layers.

    Raises:
        UserError: names the first layer, in the order of ``values``, that is not finite.
    """
    if not values:
        return
    finite = torch.stack([value.isfinite().all() for value in values.values()]).tolist()
    for layer, fine in zip(values, finite, strict=True):
        if not fine:
            raise UserError(
                f"{flag}: layer {layer} gives NaN or infinite activations; the encoder has diverged, "
                "or its input is not finite. Use an earlier checkpoint or train with a lower learning rate"
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
        model: the network; call this object, not one of its methods.
        layers: module paths, each run exactly once per forward.
        reduce: ``unit`` gives ``(B, U)``, the mean over positions of the activation of each channel; ``flat`` gives
            ``(B, D)`` with every position; ``none`` a copy of the output; a function is called on the raw output
            inside the hook, and its result is kept. ``unit`` and ``flat`` are float32 whatever the autocast.
        activation: for ``unit``. On every element before the mean: ``identity`` (Wang et al., after ReLU), ``abs``
            (Jafari, for signed activations), ``relu``. ``abs_of_mean``: on the mean.
        tokens: for ``unit`` on ``(B, T, C)``: the ``mean`` over all tokens, over ``patch`` tokens, or ``cls``.

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
        raise UserError(f"--activation {activation}: use one of {', '.join(get_args(Activation))}")
    positions = _token_positions(model, tokens)
    captured: dict[str, Tensor] = {}
    running = False
    batch_size: int | None = None

    def begin(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        nonlocal running, batch_size
        captured.clear()
        running = True
        batch_size = inputs[0].shape[0] if inputs else None

    def keep(layer: str, module: nn.Module, output: object) -> None:
        if not running:
            raise ValueError(f"layer {layer} ran outside a forward of the model; call the model itself")
        if layer in captured:
            raise ValueError(f"layer {layer} ran twice in one forward, so its output is not one thing; leave it out")
        if not isinstance(output, Tensor):
            raise ValueError(f"layer {layer} returns a {type(output).__name__}; name a layer that returns a tensor")
        if batch_size not in (None, output.shape[0]):
            raise ValueError(f"layer {layer}: first axis is {output.shape[0]}, not the batch of {batch_size}")
        if reduction is not None:
            captured[layer] = _own(reduction(output), output)
        elif reduce == "unit":
            captured[layer] = _unit_means(output, _unit_axis(module, output), activation, positions)
        elif reduce == "flat":
            captured[layer] = output.flatten(1).to(_accumulator(output), copy=True)
        else:
            captured[layer] = output.clone()

    def end(*_: object) -> None:
        nonlocal running
        running = False
        missed = [layer for layer in layers if layer not in captured]
        if missed:
            raise ValueError(f"layers that did not run in this forward: {', '.join(missed)}")

    with ExitStack() as stack:
        stack.enter_context(_uncompiled(model))
        stack.callback(model.register_forward_pre_hook(begin).remove)
        for layer in layers:
            module = model.get_submodule(layer)

            def hook(module: nn.Module, _: object, output: object, layer: str = layer) -> None:
                keep(layer, module, output)

            stack.callback(module.register_forward_hook(hook).remove)
        stack.callback(model.register_forward_hook(end).remove)
        yield captured


def _unit_means(x: Tensor, unit_axis: int, activation: Activation, positions: slice) -> Tensor:
    """``(B, U)``: mean over positions of the activation of each unit; accumulated in at least float32."""
    if x.ndim == 3:
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


def _unit_axis(module: nn.Module, output: Tensor) -> int:
    """The axis of the channels, by the kind of module: a ``(B, H, W, C)`` map cannot be told from its shape."""
    if output.ndim != 4:
        return output.ndim - 1
    kind = type(module).__name__
    channels_last = (
        isinstance(module, nn.Linear)
        or (isinstance(module, nn.LayerNorm) and not kind.endswith("2d"))
        or isinstance(getattr(module, "fc2", None), nn.Linear)
        or kind in CHANNELS_LAST_BLOCKS
    )
    return 3 if channels_last else 1


def _token_positions(model: nn.Module, tokens: Tokens) -> slice:
    if tokens not in get_args(Tokens):
        raise UserError(f"--tokens {tokens}: use one of {', '.join(get_args(Tokens))}")
    if tokens == "mean":
        return slice(None)
    prefix = getattr(model, "num_prefix_tokens", 0)
    if not prefix:
        raise UserError(f"--tokens {tokens}: this encoder has no class token; use --tokens mean")
    return slice(prefix, None) if tokens == "patch" else slice(0, 1)


def _accumulator(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def _own(result: Tensor, output: Tensor) -> Tensor:
    """``result``, copied when it is a view of ``output``, which the model may overwrite in place."""
    shared = result.untyped_storage().data_ptr() == output.untyped_storage().data_ptr()
    return result.clone() if shared else result


@contextmanager
def _uncompiled(model: nn.Module) -> Iterator[None]:
    """Run a compiled model as it was written: compiled code skips hooks that came after it."""
    if all(module._compiled_call_impl is None for module in model.modules()):
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield


def _forward_blank(model: nn.Module, image_size: int | None) -> Any:
    """The model's output on two blank images, with mode, buffers and random generators left as they were."""
    spec = getattr(model, "spec", None)
    size = image_size or getattr(spec, "input_size", None)
    if size is None:
        raise ValueError(f"{type(model).__name__} does not say its image size; pass image_size")
    weight = next(model.parameters())
    images = weight.new_zeros((_BLANK_BATCH, getattr(spec, "in_channels", 3), size, size))
    with (
        torch.random.fork_rng([weight.device] if weight.is_cuda else []),
        torch.no_grad(),
        evaluating(model),
        _uncompiled(model),
    ):
        return model(images)
