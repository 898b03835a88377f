"""Putting units back as they were."""

from copy import deepcopy

from torch import nn

from memlight.interventions.parts import Units, unit_entries


def restore_units(encoder: nn.Module, original: nn.Module, units: Units, image_size: int | None = None) -> nn.Module:
    """Copy an encoder with some units as they are in another one: their weights, biases and normalisation.

    To keep a single trained unit of a layer, train the layer and restore all the others (Wang et al. 2024, App. C.6).

    Args:
        encoder: the encoder that is copied; it is left bit-identical.
        original: where the units' entries come from; of the same architecture, left likewise.
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
