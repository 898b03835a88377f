"""Which sets of layers are exchanged together."""

from collections.abc import Sequence
from itertools import combinations
from math import comb

from torch import nn

from memlight.errors import UserError
from memlight.features.discovery import list_layers
from memlight.features.layers import check_layers
from memlight.interventions.exchange import layer_tensors

Subset = tuple[str, ...]
"""Layers that are exchanged together, in the order in which they run."""


def named_subsets(model: nn.Module, words: Sequence[str]) -> list[Subset]:
    """Read what was typed: every word is one subset, whose layers a comma joins.

    Args:
        model: the recipient.
        words: such as ``layer3`` and ``layer4,layer6``.

    Raises:
        UserError: an unknown layer, one without weights, or one that is named twice; a subset that is named twice.
    """
    order = {name: position for position, (name, _) in enumerate(model.named_modules())}
    found: list[Subset] = []
    for word in words:
        layers = word.split(",")
        check_layers(model, layers)
        layer_tensors(model, layers)
        subset = tuple(sorted(layers, key=lambda layer: order[layer]))
        if subset in found:
            raise UserError(f"--layers {word}: this subset is named twice")
        found.append(subset)
    return found


def all_subsets(model: nn.Module, sizes: Sequence[int], most: int) -> list[Subset]:
    """Every subset of the layers that have weights, of the given sizes.

    Args:
        model: the recipient.
        sizes: numbers of layers, from 1.
        most: how many subsets there may be.

    Raises:
        UserError: a size that no subset has or that is given twice, or too many subsets.
    """
    layers = layers_with_weights(model)
    for position, size in enumerate(sizes):
        if not 1 <= size <= len(layers):
            raise UserError(f"--subsets {size}: this encoder has {len(layers)} layers with weights: 1 to {len(layers)}")
        if size in sizes[:position]:
            raise UserError(f"--subsets {size}: given twice")
    if (count := sum(comb(len(layers), size) for size in sizes)) > most:
        raise UserError(
            f"--subsets {' '.join(map(str, sizes))}: {count} subsets of {len(layers)} layers, each with a new probe on "
            f"two data sets; name some with --layers, or ask for so many with --max-subsets {count}"
        )
    return [subset for size in sizes for subset in combinations(layers, size)]


def layers_with_weights(model: nn.Module) -> list[str]:
    """Of the layers worth measuring those with weights of their own, in execution order, none within another."""
    state = model.state_dict()
    own = [layer for layer in list_layers(model) if any(name.startswith(f"{layer}.") for name in state)]
    return [layer for layer in own if not any(other.startswith(f"{layer}.") for other in own)]
