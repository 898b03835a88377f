"""Which units a pruned copy loses: those with the highest or the lowest scores, or random ones."""

import math
from collections.abc import Mapping
from typing import Literal, NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from memlight.errors import UserError

Mode = Literal["top", "random", "low"]
Scope = Literal["layer", "model"]

_SCOPE_KEYS: dict[Scope, int] = {"layer": 1, "model": 2}
"""What tells the random draws of the two scopes apart."""


class PrunedCopy(NamedTuple):
    """What one copy of an encoder loses.

    Attributes:
        mode: the highest scores, the lowest ones, or random units.
        scope: a share of each layer, or of all units together.
        ratio: the share.
        trial: which random draw; 0 for the other modes.
        units: channels of each layer, ascending; a layer may lose none.
    """

    mode: Mode
    scope: Scope
    ratio: float
    trial: int
    units: dict[str, list[int]]


def pruned_count(ratio: float, units: int) -> int:
    """So many of ``units`` are a share: ``int(ratio * units)``, as in the paper, but 29 of 100 for 0.29."""
    return int(ratio * units + 1e-9)


def require_pruned(sizes: Mapping[str, int], scope: Scope, ratio: float) -> None:
    """Refuse a share that leaves a layer (or, in scope ``model``, the encoder) as it is.

    Args:
        sizes: units of each layer.
        scope: see `PrunedCopy`.
        ratio: likewise.

    Raises:
        UserError: names the smallest layer, and the share that takes one unit of it.
    """
    smallest = min(sizes, key=lambda layer: sizes[layer])
    where, units = (smallest, sizes[smallest]) if scope == "layer" else ("the model", sum(sizes.values()))
    if pruned_count(ratio, units) == 0:
        enough = math.ceil(1000 / units) / 1000
        raise UserError(f"--ratios {ratio:g}: is none of the {units} units of {where}; use {enough:g} or more.")


def choose_units(
    scores: Mapping[str, NDArray[np.float64]], mode: Mode, scope: Scope, ratio: float, *, seed: int = 0, trial: int = 0
) -> PrunedCopy:
    """Choose ``int(ratio * U)`` of the U units of each layer, or of all layers together.

    Among equal scores the units that come first go first: by layer, then by channel, in every mode. Dead units have
    score 0 and can be chosen like all others. A random draw depends on (seed, scope, ratio, trial) and, in scope
    ``layer``, on the layer's name: neither on the scores nor on which other layers are pruned.

    Args:
        scores: ``(U,)`` of each layer, in execution order.
        mode: see `PrunedCopy`.
        scope: likewise.
        ratio: likewise.
        seed: of the random draws.
        trial: which draw.
    """
    groups = [[layer] for layer in scores] if scope == "layer" else [list(scores)]
    chosen: dict[str, list[int]] = {}
    for group in groups:
        values = np.concatenate([scores[layer] for layer in group])
        if mode == "random":
            key = [seed % 2**64, _SCOPE_KEYS[scope], round(ratio * 1e9), trial]
            key += [crc32(group[0].encode())] if scope == "layer" else []
            order = np.random.default_rng(key).permutation(len(values))
        else:
            order = np.argsort(-values if mode == "top" else values, kind="stable")
        lost = np.sort(order[: pruned_count(ratio, len(values))])
        ends = np.cumsum([len(scores[layer]) for layer in group])
        parts = np.split(lost, np.searchsorted(lost, ends[:-1]))
        starts = [0, *ends[:-1].tolist()]
        chosen |= {layer: (part - start).tolist() for layer, part, start in zip(group, parts, starts, strict=True)}
    return PrunedCopy(mode, scope, ratio, trial, chosen)
