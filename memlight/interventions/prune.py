"""Changes to single units of a copy of an encoder: pruned, so that they say 0, or put back as they were."""

from copy import deepcopy

import torch
from torch import nn

from memlight.errors import UserError
from memlight.features.discovery import forward_blank
from memlight.features.hooks import capture
from memlight.interventions.parts import Units, unit_entries


def prune_units(encoder: nn.Module, units: Units, image_size: int | None = None) -> nn.Module:
    """Copy an encoder with some units cut: each is exactly 0 in its layer's output and after the norm that follows.

    Weight rows and biases become 0, and of a normalisation right behind them weight, bias and running mean
    (Wang et al. 2024, sec. 5). The running variance stays, since nothing is divided by 0 then.

    Args:
        encoder: any network that maps ``(B, 3, H, W)`` to a tensor; it is left bit-identical.
        units: channels of each layer; a layer may have none.
        image_size: image side in pixels; None takes ``encoder.spec.input_size``.

    Raises:
        UserError: a layer that is unknown, is the classifier's head, or whose units are not rows of one weight; a unit
            it does not have; or one that is not 0 although its weights are, since something else adds to it.
    """
    layers = [layer for layer, chosen in units.items() if len(chosen)]
    pruned = deepcopy(encoder)
    if not layers:
        return pruned
    masks = unit_entries(pruned, {layer: units[layer] for layer in layers}, image_size)
    tensors = pruned.state_dict()
    for name, mask in masks.items():
        if not name.endswith(".running_var"):
            tensors[name].masked_fill_(mask, 0)
    with capture(pruned, layers) as captured:
        forward_blank(pruned, image_size, noise=True)
        for layer in layers:
            if captured[layer][:, torch.as_tensor(units[layer])].any():
                why = "its units are not 0 when their weights are, so they cannot be pruned"
                raise UserError("layers", layer, why)
    return pruned


def restore_units(encoder: nn.Module, original: nn.Module, units: Units, image_size: int | None = None) -> nn.Module:
    """Copy an encoder with some units as they are in another one: their weights, biases and normalisation.

    To keep a single trained unit of a layer, train the layer and restore all the others (Wang et al. 2024, App. C.6).

    Args:
        encoder: the encoder that is copied; it is left bit-identical.
        original: where the units' entries come from; of the same architecture, and left bit-identical.
        units: channels of each layer, which become those of ``original``.
        image_size: image side in pixels; None takes ``encoder.spec.input_size``.

    Raises:
        UserError: as `memlight.interventions.parts.unit_entries`.
        ValueError: the architectures differ.
    """
    restored = deepcopy(encoder)
    to, source = restored.state_dict(), original.state_dict()
    for name, mask in unit_entries(restored, units, image_size).items():
        if name not in source or source[name].shape != mask.shape:
            raise ValueError(f"{name} is not the same tensor in both models")
        to[name][mask] = source[name][mask]
    return restored
