"""Exchange: some layers of a copy of an encoder are those of another one."""

from collections.abc import Sequence
from copy import deepcopy

from torch import Tensor, nn

from memlight.errors import UserError
from memlight.features.layers import check_layers, layer_place
from memlight.interventions.parts import unit_weights


def exchange_layers(
    recipient: nn.Module, donor: nn.Module, layers: Sequence[str], image_size: int | None = None
) -> nn.Module:
    """Copy an encoder with the weights of some layers taken from another (Wang et al. 2024, App. C.7).

    A layer takes along everything below its path, and the normalisation that is applied to its output channel by
    channel, with its running statistics.

    Args:
        recipient: the encoder that is copied; it is left bit-identical.
        donor: an encoder of the same architecture; it is left bit-identical.
        layers: module paths.
        image_size: image side in pixels; None takes ``recipient.spec.input_size``.

    Raises:
        UserError: an unknown layer, one without weights, or one that has other weights in the donor.
    """
    names = layer_tensors(recipient, layers, image_size)
    exchanged = deepcopy(recipient)
    to, source = exchanged.state_dict(), donor.state_dict()
    for name in names:
        if name not in source or source[name].shape != to[name].shape:
            other = f"has shape {tuple(source[name].shape)}" if name in source else "is missing"
            why = f"{name} {other} there and {tuple(to[name].shape)} in the recipient"
            raise UserError("donor", None, why, "exchange layers between encoders of one architecture")
    for name in names:
        to[name].copy_(source[name])
    return exchanged


def layer_tensors(model: nn.Module, layers: Sequence[str], image_size: int | None = None) -> list[str]:
    """Full names of the parameters and buffers that a layer consists of: those below its path and the norm behind it.

    Raises:
        UserError: an unknown layer, or one without weights.
    """
    check_layers(model, layers)
    state: dict[str, Tensor] = model.state_dict()
    names: list[str] = []
    for layer in layers:
        path, suffix = layer_place(model, layer)
        of_layer = [name for name in state if name.startswith(f"{path}.")]
        if suffix or not of_layer:
            raise UserError("layers", layer, "has no weights of its own", "name a layer that has some")
        names += of_layer
        norm = _norm_behind(model, layer, image_size)
        names += [name for name in state if norm is not None and name.startswith(f"{norm}.")]
    return list(dict.fromkeys(names))


def _norm_behind(model: nn.Module, layer: str, image_size: int | None) -> str | None:
    """The norm of the layer's units; None for those that end in a sum, and so in no norm."""
    try:
        return unit_weights(model, [layer], image_size)[layer].norm
    except UserError:
        return None
