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


def named_subsets(model: nn.Module, layers: Sequence[str]) -> list[Subset]:
    """Read what was typed: every word is one subset, whose layers a comma joins.

    Args:
        model: the recipient.
        layers: such as ``layer3`` and ``layer4,layer6``.

    Raises:
        UserError: an unknown layer, one without weights, or one that is named twice; a subset that is named twice.
    """
    order = {name: position for position, (name, _) in enumerate(model.named_modules())}
    subsets: list[Subset] = []
    for word in layers:
        names = word.split(",")
        check_layers(model, names)
        layer_tensors(model, names)
        subset = tuple(sorted(names, key=lambda layer: order[layer]))
        if subset in subsets:
            raise UserError("layers", word, "this subset is named twice")
        subsets.append(subset)
    return subsets


def all_subsets(model: nn.Module, subsets: Sequence[int], max_subsets: int) -> list[Subset]:
    """Every subset of so many of the layers that have weights.

    Args:
        model: the recipient.
        subsets: numbers of layers in a subset, from 1.
        max_subsets: the most subsets that are given.

    Raises:
        UserError: a number of layers that no subset has or that is given twice, or too many subsets.
    """
    layers = layers_with_weights(model)
    for position, size in enumerate(subsets):
        if not 1 <= size <= len(layers):
            why = f"this encoder has {len(layers)} layers with weights: 1 to {len(layers)}"
            raise UserError("subsets", size, why)
        if size in subsets[:position]:
            raise UserError("subsets", size, "given twice")
    if (count := sum(comb(len(layers), size) for size in subsets)) > max_subsets:
        why = f"{count} subsets of {len(layers)} layers, each with a new probe on two data sets"
        ways = ["name some with `layers`", f"ask for so many with `max_subsets={count}`"]
        raise UserError("subsets", list(subsets), why, ways)
    return [subset for size in subsets for subset in combinations(layers, size)]


def layers_with_weights(model: nn.Module) -> list[str]:
    """Of the layers worth measuring those with weights of their own, in execution order, none within another."""
    state = model.state_dict()
    weighted = [layer for layer in list_layers(model) if any(name.startswith(f"{layer}.") for name in state)]
    return [layer for layer in weighted if not any(other.startswith(f"{layer}.") for other in weighted)]
