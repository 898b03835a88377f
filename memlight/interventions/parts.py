"""Which weights make the units of a layer: found by following one blank forward back from the layer's output."""

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from memlight.errors import UserError
from memlight.features.discovery import first_tensor, forward_blank, is_encoder, list_layers, watching
from memlight.features.layers import check_layers, layer_place

Units = Mapping[str, Sequence[int]]
"""Layer -> channels."""

NORM_ENTRIES = ("weight", "bias", "running_mean", "running_var")
"""What a normalisation keeps for each channel."""


class UnitWeights(NamedTuple):
    """Where the weights of a layer's units are.

    Attributes:
        producer: path of the Conv2d or Linear whose weight rows (and biases) are the units.
        norm: path of the normalisation that is applied to its output; None where there is none.
    """

    producer: str
    norm: str | None


def unit_weights(model: nn.Module, layers: Sequence[str], image_size: int | None = None) -> dict[str, UnitWeights]:
    """Find the weights of the units of each layer.

    Between the weights and the layer's output there may be a normalisation and modules that map one tensor without
    weights of their own, such as activations and pooling. What the model itself adds, as a residual sum does, ends the
    search: such units are not made by one row of weights.

    Args:
        model: any network that maps ``(B, 3, H, W)`` to a tensor; it is left bit-identical.
        layers: module paths.
        image_size: image side in pixels; None takes ``model.spec.input_size``.

    Raises:
        UserError: an unknown layer, one whose units are not rows of one weight, or the classifier's head.
    """
    check_layers(model, layers)
    forward = _Forward(model, image_size)
    weights_of = {}
    for layer in layers:
        weights = forward.weights_of(layer)
        if weights is None:
            usable = (
                ", ".join(name for name in list_layers(model, image_size=image_size) if forward.weights_of(name))
                or "none"
            )
            why = f"its units are not rows of one layer's weights; those of these are: {usable}"
            raise UserError("layers", layer, why)
        if forward.is_head(weights):
            raise UserError("layers", layer, "is the classifier's head, whose outputs are classes and not units")
        weights_of[layer] = weights
    return weights_of


def prunable_layers(model: nn.Module, image_size: int | None = None) -> list[str]:
    """The layers worth measuring whose units are rows of one weight, in the order in which they run."""
    forward = _Forward(model, image_size)
    found = ((layer, forward.weights_of(layer)) for layer in list_layers(model, image_size=image_size))
    return [layer for layer, weights in found if weights is not None and not forward.is_head(weights)]


def unit_entries(model: nn.Module, units: Units, image_size: int | None = None) -> dict[str, Tensor]:
    """The entries of parameters and buffers that belong to units, and to nothing else.

    Args:
        model: any network.
        units: channels of each layer.
        image_size: image side in pixels; None takes ``model.spec.input_size``.

    Returns:
        Full name of a parameter or buffer -> bool mask of its shape: weight rows, biases, and the channels of the
        normalisation (``NORM_ENTRIES``).

    Raises:
        UserError: as `unit_weights`; or a channel that the layer does not have.
    """
    tensors = dict(model.state_dict(keep_vars=True))
    masks: dict[str, Tensor] = {}
    for layer, weights in unit_weights(model, list(units), image_size).items():
        count = len(tensors[f"{weights.producer}.weight"])
        rows = torch.as_tensor(units[layer], dtype=torch.int64)
        if rows.numel() and not 0 <= int(rows.min()) <= int(rows.max()) < count:
            raise UserError("units", None, f"{layer} has units 0 to {count - 1}, not {rows.min()} to {rows.max()}")
        for name in entry_names(weights):
            if name in tensors:
                mask = masks.setdefault(name, torch.zeros_like(tensors[name], dtype=torch.bool))
                mask[rows.to(mask.device)] = True
    return masks


def entry_names(weights: UnitWeights) -> list[str]:
    """Names of the tensors that hold an entry for each unit; a model need not have all of them."""
    of_norm = [f"{weights.norm}.{entry}" for entry in NORM_ENTRIES] if weights.norm is not None else []
    return [f"{weights.producer}.weight", f"{weights.producer}.bias", *of_norm]


class _Seen(NamedTuple):
    """A tensor, and how often it had been overwritten when it was seen."""

    tensor: Tensor
    version: int

    def is_same(self, other: "_Seen") -> bool:
        """Whether both are all of one memory with nothing written in between; views and reshapes are."""
        same_memory = self.tensor.data_ptr() == other.tensor.data_ptr() and self.tensor.numel() == other.tensor.numel()
        return same_memory and self.version == other.version


class _Event(NamedTuple):
    """One forward of a module that is not looked into."""

    name: str
    module: nn.Module
    inputs: list[_Seen]
    output: _Seen | None


class _Forward:
    """What ran in one blank forward. Every tensor is held, so that no two of them share memory by chance."""

    def __init__(self, model: nn.Module, image_size: int | None) -> None:
        self.model = model
        self.names = {module: name for name, module in model.named_modules()}
        self.events: list[_Event] = []
        self.outputs: dict[str, tuple[_Seen | None, int]] = {}  # of every module, and how many events there were then
        self._entering: dict[nn.Module, list[_Seen]] = {}
        with watching(self.names, self._begin, self._end):
            self.result = first_tensor(forward_blank(model, image_size))

    def _begin(self, module: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        tensors = (value for value in (*inputs, *keywords.values()) if isinstance(value, Tensor))
        self._entering[module] = [_Seen(tensor, tensor._version) for tensor in tensors]

    def _end(self, module: nn.Module, _: object, output: Any) -> None:
        name = self.names[module]
        y = first_tensor(output)
        seen = None if y is None else _Seen(y, y._version)
        if _is_whole(module):
            self.events.append(_Event(name, module, self._entering[module], seen))
        self.outputs[name] = seen, len(self.events)

    def is_head(self, weights: UnitWeights) -> bool:
        """Whether the model returns what these weights compute, and is more than an encoder."""
        output, _ = self.outputs.get(weights.producer, (None, 0))
        return not is_encoder(self.model) and output is not None and output.tensor is self.result

    def weights_of(self, layer: str) -> UnitWeights | None:
        """Follow the layer's output back to the weights that made it; None where something else made it."""
        path, suffix = layer_place(self.model, layer)
        seen, end = self.outputs.get(path, (None, 0))
        norm: str | None = None
        while seen is not None and not suffix:
            end = self._maker(seen, end)
            if end < 0:
                return None
            event = self.events[end]
            if isinstance(event.module, nn.Conv2d | nn.Linear | nn.MultiheadAttention):
                producer = f"{event.name}.out_proj" if isinstance(event.module, nn.MultiheadAttention) else event.name
                return self._checked(UnitWeights(producer, norm or self._norm_after(end)))
            if _is_norm(event.module) and norm is None:
                norm = event.name
            elif not _passes_units_on(event):
                return None
            seen = event.inputs[0]
        return None

    def _maker(self, seen: _Seen, end: int) -> int:
        """The last event before ``end`` whose output this is; -1 where none is."""
        for position in range(end - 1, -1, -1):
            output = self.events[position].output
            if output is not None and output.is_same(seen):
                return position
        return -1

    def _norm_after(self, position: int) -> str | None:
        """The normalisation that is the first to read an event's output."""
        made = self.events[position].output
        for event in islice(self.events, position + 1, None):
            if made is not None and any(made.is_same(read) for read in event.inputs):
                return event.name if _is_norm(event.module) else None
        return None

    def _checked(self, weights: UnitWeights) -> UnitWeights | None:
        """The weights, if the normalisation has as many channels."""
        rows = len(self.model.get_parameter(f"{weights.producer}.weight"))
        if weights.norm is None:
            return weights
        sizes = [
            len(t) for name, t in self.model.get_submodule(weights.norm).state_dict().items() if name in NORM_ENTRIES
        ]
        return weights if all(size == rows for size in sizes) else None


def _is_norm(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.batchnorm._BatchNorm | nn.GroupNorm | nn.LayerNorm)


def _is_whole(module: nn.Module) -> bool:
    """Modules that are not looked into: leaves, norms with an activation inside, and attention that calls no child."""
    return isinstance(module, nn.MultiheadAttention) or _is_norm(module) or not any(True for _ in module.children())


def _passes_units_on(event: _Event) -> bool:
    """Whether a module maps one tensor without mixing channels by weights of its own."""
    has_matrix = any(parameter.ndim > 1 for parameter in event.module.parameters())
    return len(event.inputs) == 1 and not _is_norm(event.module) and not has_matrix
