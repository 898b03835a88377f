"""Which layers of a network are worth measuring: found by watching one forward of two blank images."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from memlight.features.layers import INPUT

RESIDUAL_BLOCKS = (
    *("BasicBlock", "Bottleneck", "ResBottleneckBlock"),  # ResNets and RegNets of torchvision and timm
    *("ConvNeXtBlock", "CNBlock", "MetaFormerBlock", "MixerBlock"),
    *("Block", "EvaBlock", "EncoderBlock"),  # ViTs of timm and torchvision
    *("ResPostBlock", "ResPostRelPosBlock", "EvaBlockPostNorm"),  # norms after the sub-layers
    *("ParallelScalingBlock", "DiffParallelScalingBlock", "ParallelThingsBlock", "XCABlock"),
    *("SwinTransformerBlock", "SwinTransformerV2Block", "SwinTransformerBlockV2"),
)
"""Class names of blocks whose output is a residual sum."""

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
    """Run a compiled model as it was written: compiled code skips hooks that came after it."""
    if all(module._compiled_call_impl is None for module in model.modules()):
        yield
        return
    with torch.compiler.set_stance("force_eager"):
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
    values = value.values() if isinstance(value, dict) else value if isinstance(value, tuple | list) else ()
    return next((tensor for tensor in map(first_tensor, values) if tensor is not None), None)


def forward_blank(model: nn.Module, image_size: int | None = None, *, noise: bool = False) -> Any:
    """The model's output on two blank images, with mode, buffers and random generators left as they were.

    Args:
        model: any network that maps ``(B, 3, H, W)`` to something.
        image_size: image side in pixels; None takes ``model.spec.input_size``.
        noise: on two images of noise, always the same ones, instead.
    """
    spec = getattr(model, "spec", None)
    size = image_size or getattr(spec, "input_size", None)
    if size is None:
        raise ValueError(f"{type(model).__name__} does not say its image size; pass image_size")
    weight = next(model.parameters())
    images = torch.zeros(_BLANK_BATCH, getattr(spec, "in_channels", 3), size, size)
    if noise:
        images.normal_(generator=torch.Generator().manual_seed(0))
    images = images.to(weight)
    with (
        torch.random.fork_rng([weight.device] if weight.is_cuda else []),
        torch.no_grad(),
        evaluating(model),
        uncompiled(model),
    ):
        return model(images)


def list_layers(model: nn.Module, image_size: int | None = None) -> list[str]:
    """Name the layers worth measuring, in the order in which they run.

    A model that says so itself (attribute ``layer_names``, as ResNet9 does) is believed. For any other: every Conv2d
    and Linear leaf and every residual block (its output, the sum) that one forward of two blank images reaches
    exactly once. In place of its Linear leaves a transformer block of the usual order, attention and then MLP with
    a norm before each, gives its five layers: ``attn``, ``norm2@in`` (the residual sum after the attention), the MLP's
    hidden layer after the activation, ``mlp``, and the block (the residual sum after the MLP). Left out are the
    classifier head (a Linear whose output the model returns, in models that ``build_encoder`` did not make) and
    modules whose first axis is not the batch, such as window attention.

    The model is left bit-identical: weights, buffers, mode, and the state of the random generators.

    Args:
        model: any network that maps ``(B, 3, H, W)`` to a tensor.
        image_size: image side in pixels; None takes ``model.spec.input_size``.
    """
    declared = getattr(model, "layer_names", None)
    if declared is not None:
        return list(declared)
    watched = _Forward(model)
    with watching(watched.names, watched.begin, watched.end):
        result = forward_blank(model, image_size)
    head = None if hasattr(model, "spec") else watched.head(result)
    return [layer for layer in watched.layers() if layer != head]


class _Forward:
    """What ran in one forward, in order, and which transformer blocks were among it."""

    def __init__(self, model: nn.Module) -> None:
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
        if value is not None and value.ndim > 1 and value.shape[0] == _BLANK_BATCH:
            self.values.append((layer, module))

    def head(self, result: Any) -> str | None:
        """The Linear whose output the model returned."""
        linear, output = self.last_linear
        return self.names[linear] if linear is not None and output is result else None

    def layers(self) -> list[str]:
        wanted = self.of_blocks | {
            name
            for module, name in self.names.items()
            if module not in self.inside
            and (isinstance(module, nn.Conv2d | nn.Linear) or type(module).__name__ in RESIDUAL_BLOCKS)
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
