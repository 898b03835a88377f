"""What `analyze.py unit` cannot work with, told before any image is read."""

from collections.abc import Sequence

import numpy as np
from torch import nn

from memlight import dist
from memlight.data.splits import SPLITS, PairSplit
from memlight.errors import UserError, named
from memlight.interventions.parts import unit_weights


def require_one_process() -> None:
    """Refuse to train the same unit several times over.

    Raises:
        UserError: torchrun or srun started several processes.
    """
    if dist.world_size() > 1:
        raise UserError(f"unit: trains one unit, in one process; start it without torchrun (here {dist.world_size()}).")


def require_unit(encoder: nn.Module, layer: str, unit: int | None) -> None:
    """Refuse a layer whose units have no weights of their own, and a unit that it does not have.

    Raises:
        UserError: names the flag.
    """
    with named(layers="layer"):
        weights = unit_weights(encoder, [layer])[layer]
    units = len(encoder.get_parameter(f"{weights.producer}.weight"))
    if unit is not None and not 0 <= unit < units:
        raise UserError(f"--unit {unit}: {layer} has units 0 to {units - 1}.")


def require_chosen(split: PairSplit, ids: Sequence[int], context: int, drawn_from: str) -> dict[str, str]:
    """Refuse images that no member could have been trained on, and more context than there is.

    Args:
        split: the run's.
        ids: the chosen images.
        context: how many images stand beside them.
        drawn_from: the split that these are drawn from.

    Returns:
        The split of each chosen image by its id; "none" for training images that the run left out.

    Raises:
        UserError: names the flag.
    """
    for position, id_ in enumerate(ids):
        if not 0 <= id_ < split.num_train:
            test = "is a test image" if split.num_train <= id_ < split.num_train + split.num_test else "no such image"
            raise UserError(f"--ids {id_}: {test}; training images have ids 0 to {split.num_train - 1}.")
        if id_ in ids[:position]:
            raise UserError(f"--ids {id_}: named twice.")
    others = len(np.setdiff1d(split.ids(drawn_from), ids))
    if context > others:
        raise UserError(f"--context {context}: there are {others} {drawn_from} images besides the chosen; use fewer.")
    return {str(id_): next((name for name in SPLITS if id_ in split.ids(name)), "none") for id_ in ids}


def unit_tag(member: str, network: str | None, objective: str) -> str | None:
    """What tells a result apart from that of the finished candidate encoder and its own loss.

    Args:
        member: whose unit.
        network: which network; None for the default one.
        objective: what it is trained for.
    """
    parts = [member] if member != "candidate" else []
    return "-".join([*parts, *filter(None, [network]), *([objective] if objective != "training" else [])]) or None
