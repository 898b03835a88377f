"""Which layers of a network are worth measuring: found by watching one forward of blank images, or of an example."""

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from memlight.errors import UserError
from memlight.features.layers import INPUT, check_layers, choose_layers, declared_layers, is_pattern

Inputs = Tensor | Sequence[Any] | Mapping[str, Any]
"""What a model is called with: its one argument, several in a row, or arguments by name."""

RESIDUAL_BLOCKS = (
    *("BasicBlock", "Bottleneck", "ResBottleneckBlock"),  # ResNets and RegNets of torchvision and timm
    *("ConvNeXtBlock", "CNBlock", "MetaFormerBlock", "MixerBlock"),
    *("Block", "EvaBlock", "EncoderBlock"),  # ViTs of timm and torchvision
    *("ResPostBlock", "ResPostRelPosBlock", "EvaBlockPostNorm"),  # norms after the sub-layers
    *("ParallelScalingBlock", "DiffParallelScalingBlock", "ParallelThingsBlock", "XCABlock"),
    *("SwinTransformerBlock", "SwinTransformerV2Block", "SwinTransformerBlockV2"),
)
"""Class names of blocks whose output is a residual sum."""

LAYERS = (
    *(nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear, nn.Embedding, nn.RNNBase, nn.MultiheadAttention),
    *(nn.TransformerEncoderLayer, nn.TransformerDecoderLayer),
)
"""Modules whose output is worth measuring wherever they stand."""

_LINEAR_BY_NAME = ("Conv1D",)
"""Class names of Linear layers that are no `torch.nn.Linear`: GPT-2's in transformers, whose weight is transposed."""

_BLANK_BATCH = 2
_PARTS = (("attn", "norm2", "mlp"), ("self_attention", "ln_2", "mlp"))
"""Attention, second norm and MLP of a transformer block: timm and torchvision's Swin; torchvision's ViT."""


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


@contextmanager
def uncompiled(model: nn.Module) -> Iterator[None]:
    """Run a model as it was written, module by module, so that hooks see what each computes.

    Compiled code skips hooks that came after it. In eval mode `torch.nn.TransformerEncoder` packs what is not padded
    into nested tensors, which have no axes.
    """
    with ExitStack() as stack:
        if any(module._compiled_call_impl is not None for module in model.modules()):
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        if any(isinstance(module, nn.TransformerEncoder) for module in model.modules()):
            stack.callback(torch.backends.mha.set_fastpath_enabled, torch.backends.mha.get_fastpath_enabled())
            torch.backends.mha.set_fastpath_enabled(False)
        yield


@contextmanager
def watching(
    modules: Iterable[nn.Module],
    begin: Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], None],
    end: Callable[[nn.Module, tuple[Any, ...], Any], None],
) -> Iterator[None]:
    """Call ``begin(module, inputs, keywords)`` and ``end(module, inputs, output)`` around every forward of modules."""
    with ExitStack() as stack:
        for module in modules:
            stack.callback(module.register_forward_pre_hook(begin, with_kwargs=True).remove)
            stack.callback(module.register_forward_hook(end).remove)
        yield


def first_tensor(value: Any) -> Tensor | None:
    """The value itself, or the first tensor in a tuple, list or dictionary; None where there is none."""
    if isinstance(value, Tensor):
        return value
    values = value.values() if isinstance(value, Mapping) else value if isinstance(value, tuple | list) else ()
    return next((tensor for tensor in map(first_tensor, values) if tensor is not None), None)


def is_encoder(model: nn.Module) -> bool:
    """Whether ``build_encoder`` made it: it has no classifier then, and says which images it takes."""
    return hasattr(getattr(model, "spec", None), "num_features")


def any_weight(model: nn.Module) -> Tensor:
    """A parameter, or else a buffer, with the device and the kind of numbers that a model computes with."""
    tensors = [*model.parameters(), *model.buffers()]
    floats = (tensor for tensor in tensors if tensor.is_floating_point())
    return next(floats, tensors[0] if tensors else torch.zeros(()))


@contextmanager
def left_alone(model: nn.Module) -> Iterator[None]:
    """A forward within it changes nothing: no gradients, eval mode; modes, buffers and generators are put back."""
    weight = any_weight(model)
    buffers = [
        (module, name, buffer, buffer.clone())
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None and not is_lazy(buffer)
    ]
    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng([weight.device] if weight.is_cuda else []), torch.no_grad(), evaluating(model):
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
            for module, name, buffer, value in buffers:
                module._buffers[name] = buffer
                if not torch.equal(buffer, value):
                    buffer.copy_(value)


def forward_blank(
    model: nn.Module,
    image_size: int | None = None,
    *,
    noise: bool = False,
    example_inputs: Inputs | None = None,
) -> Any:
    """The model's output on two blank images, or on an example; mode, buffers and generators are left as they were.

    Args:
        model: any network; without an example one that maps ``(B, 3, H, W)`` to something.
        image_size: image side in pixels; None takes ``model.spec.input_size``.
        noise: on two images of noise, always the same ones, instead.
        example_inputs: what to call it with instead, see `list_layers`.
    """
    if example_inputs is not None:
        with left_alone(model), uncompiled(model):
            if isinstance(example_inputs, Mapping):
                return model(**example_inputs)
            return model(*((example_inputs,) if isinstance(example_inputs, Tensor) else example_inputs))
    spec = getattr(model, "spec", None)
    size = image_size or getattr(spec, "input_size", None)
    if size is None:
        kind = type(model).__name__
        raise ValueError(
            f"{kind} does not say its image size; pass image_size, or example_inputs if it takes no images"
        )
    images = torch.zeros(_BLANK_BATCH, getattr(spec, "in_channels", 3), size, size)
    if noise:
        images.normal_(generator=torch.Generator().manual_seed(0))
    weight = any_weight(model)
    images = images.to(weight.device, weight.dtype if weight.is_floating_point() else None)
    with left_alone(model), uncompiled(model):
        return model(images)


def list_layers(model: nn.Module, example_inputs: Inputs | None = None, *, image_size: int | None = None) -> list[str]:
    """Name the layers worth measuring, in the order in which they run.

    A model that says so itself (attribute ``layer_names``, as ResNet9 does) is believed. For any other: every
    convolution, Linear, embedding, recurrent and attention module (``LAYERS``; a Conv1d only if it has more than one
    channel) and every residual block (its output, the sum) that one forward reaches exactly once. In place of its
    Linear leaves a transformer block of the usual order, attention and then MLP with
    a norm before each, gives its five layers: ``attn``, ``norm2@in`` (the residual sum after the attention), the MLP's
    hidden layer after the activation, ``mlp``, and the block (the residual sum after the MLP). Left out are the
    classifier head (a Linear whose output the model returns, in models that ``build_encoder`` did not make) and
    modules whose first axis is not the batch, such as window attention.

    The model is left bit-identical: weights, buffers, mode, and the state of the random generators.

    Args:
        model: any network.
        example_inputs: what it is called with, for models of text, sound or anything else: a tensor, a tuple of
            arguments, or a dictionary of arguments by name; the first axis of its first tensor is the batch, which
            should have two examples or more. None calls it with two blank images ``(2, 3, H, W)``.
        image_size: image side in pixels, without an example; None takes ``model.spec.input_size``.
    """
    declared = declared_layers(model)
    if declared is not None:
        return declared
    first = first_tensor(example_inputs)
    if example_inputs is not None and (first is None or first.ndim == 0):
        raise ValueError("example_inputs holds no batch: give a tensor, a tuple, or a dictionary of arguments by name")
    watched = _Forward(model, _BLANK_BATCH if first is None else len(first))
    with watching(watched.names, watched.begin, watched.end):
        result = forward_blank(model, image_size, example_inputs=example_inputs)
    head = None if is_encoder(model) else watched.head(first_tensor(result))
    return [layer for layer in watched.layers() if layer != head]


def chosen_layers(model: nn.Module, chosen: Sequence[str] | None, *, image_size: int | None = None) -> list[str]:
    """The chosen layers in the order given, or all of them in execution order.

    Args:
        model: an encoder.
        chosen: names, and patterns such as ``layer4.*``, see `memlight.features.layers.choose_layers`; None is all.
        image_size: see `list_layers`.

    Raises:
        UserError: there is no such layer (lists the nearest), or none at all.
    """
    names = list(chosen or ())
    if chosen is None or any(map(is_pattern, names)):
        known = list_layers(model, image_size=image_size)
        names = known if chosen is None else choose_layers(names, known)
    if chosen is None and not names:
        paths = ", ".join([name for name, _ in model.named_modules() if name][:5]) or "it has none"
        why = "none was found that is measured by itself (convolutions, linear layers, blocks)"
        raise UserError("layers", None, why, f"name some of the encoder's modules ({paths})")
    check_layers(model, names)
    return names


class _Forward:
    """What ran in one forward, in order, and which transformer blocks were among it."""

    def __init__(self, model: nn.Module, batch: int) -> None:
        self.batch = batch
        self.names: dict[nn.Module, str] = {module: name for name, module in model.named_modules() if name}
        self.times: Counter[nn.Module] = Counter()
        self.values: list[tuple[str, nn.Module]] = []  # every input and output whose first axis is the batch
        self.of_blocks: set[str] = set()  # the layers of transformer blocks
        self.inside: set[nn.Module] = set()  # modules of their attentions and MLPs
        self.running: list[_Block] = []
        self.last_linear: tuple[nn.Module | None, Tensor | None] = (None, None)

    def begin(self, module: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        x = first_tensor((inputs, keywords))
        self.times[module] += 1
        self._note(self.names[module] + INPUT, module, x)
        for block in self.running:
            block.steps.append((INPUT, module, x))
        if parts := _parts(module):
            self.running.append(_Block(module, parts, x))

    def end(self, module: nn.Module, _: object, output: Any) -> None:
        y = first_tensor(output)
        self._note(self.names[module], module, y)
        if self.running and self.running[-1].module is module:
            block = self.running.pop()
            if block.is_transformer(y):
                self.of_blocks.update(block.layers(self.names))
                self.inside.update(block.attention.modules(), block.mlp.modules())
        for block in self.running:
            block.steps.append(("", module, y))
        if isinstance(module, nn.Linear):
            self.last_linear = module, y

    def _note(self, layer: str, module: nn.Module, value: Tensor | None) -> None:
        if value is not None and value.ndim > 1 and value.shape[0] == self.batch:
            self.values.append((layer, module))

    def head(self, result: Any) -> str | None:
        """The Linear whose output the model returned."""
        linear, output = self.last_linear
        return self.names[linear] if linear is not None and output is result else None

    def layers(self) -> list[str]:
        wanted = self.of_blocks | {
            name for module, name in self.names.items() if module not in self.inside and _is_layer(module)
        }
        return [layer for layer, module in self.values if layer in wanted and self.times[module] == 1]


class _Block:
    """One forward of what may be a transformer block: the inputs and outputs inside it, held until it returns."""

    def __init__(
        self, module: nn.Module, parts: tuple[nn.Module, nn.Module, nn.Module], entering: Tensor | None
    ) -> None:
        self.module = module
        self.attention, self.norm, self.mlp = self.parts = parts
        self.entering = entering
        self.steps: list[tuple[str, nn.Module, Tensor | None]] = []

    def is_transformer(self, output: Tensor | None) -> bool:
        """Whether it is attention and then MLP with a norm before it, each added to what came before.

        The calls tell: with norms behind the sub-layers the second norm does not feed the MLP, with both sub-layers in
        parallel it gets what entered the block, and a third sub-layer runs its weights between attention and norm.
        """
        calls = [(end, module) for end, module, _ in self.steps]
        if [call for call in calls if call[1] in self.parts] != [(end, p) for p in self.parts for end in (INPUT, "")]:
            return False
        tensors = {(end, module): tensor for end, module, tensor in self.steps}
        between = calls[calls.index(("", self.attention)) : calls.index((INPUT, self.norm))]
        return (
            tensors[INPUT, self.mlp] is tensors["", self.norm]
            and not _same_memory(tensors[INPUT, self.norm], self.entering)
            and not _same_memory(tensors[INPUT, self.norm], tensors["", self.attention])
            and not _same_memory(output, tensors["", self.mlp])
            and not any(isinstance(module, nn.Conv2d | nn.Linear) for _, module in between[1:])
        )

    def layers(self, names: dict[nn.Module, str]) -> list[str]:
        """Attention, the sum after it, the MLP's hidden layer, the MLP and the sum after it."""
        attention, norm, mlp = (names[part] for part in self.parts)
        return [attention, norm + INPUT, *self._hidden(names), mlp, names[self.module]]

    def _hidden(self, names: dict[nn.Module, str]) -> list[str]:
        """What goes into the MLP's last Linear, by the name of the activation that made it where one module did.

        A gated MLP multiplies two paths and no module returns the product: there it is the last Linear's ``@in``.
        """
        inside = set(self.mlp.modules())
        steps = [step for step in self.steps if step[1] in inside]
        linears = [
            position
            for position, (end, module, _) in enumerate(steps)
            if end == INPUT and isinstance(module, nn.Conv2d | nn.Linear)
        ]
        if len(linears) < 2:
            return []
        _, last, hidden = steps[linears[-1]]
        makers = [
            module
            for end, module, tensor in steps[: linears[-1]]
            if end == "" and tensor is hidden and _is_activation(module)
        ]
        return [names[makers[-1]]] if makers else [names[last] + INPUT]


def _is_layer(module: nn.Module) -> bool:
    """Whether its output is worth measuring; a Conv1d of one channel weighs channels (ECA attention), it has none."""
    if isinstance(module, nn.Conv1d) and module.out_channels == 1:
        return False
    return isinstance(module, LAYERS) or type(module).__name__ in (*RESIDUAL_BLOCKS, *_LINEAR_BY_NAME)


def _parts(module: nn.Module) -> tuple[nn.Module, nn.Module, nn.Module] | None:
    children = dict(module.named_children())
    for attention, norm, mlp in _PARTS:
        if attention in children and norm in children and mlp in children:
            return children[attention], children[norm], children[mlp]
    return None


def _same_memory(a: Tensor | None, b: Tensor | None) -> bool:
    """One tensor, or views of one: nothing was added to it in between. Both are alive, so no memory was reused."""
    return a is None or b is None or a.data_ptr() == b.data_ptr()


def _is_activation(module: nn.Module) -> bool:
    """A leaf without weights that computes something: what passes its input on in eval mode made nothing."""
    passes_on = isinstance(module, nn.Dropout | nn.Identity)
    return (
        not passes_on and not any(True for _ in module.children()) and not any(p.ndim > 1 for p in module.parameters())
    )
