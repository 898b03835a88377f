"""Which layers are fine-tuned: named ones, those that rank first, or random ones."""

from collections.abc import Sequence

import numpy as np

from memlight.analyses.finetune.effects import HEAD, NAMED, RANDOM, Arm
from memlight.errors import UserError
from memlight.random import permutation
from memlight.storage.tables import Table


def head_arm(trials: int) -> Arm:
    """No layer: the linear classifier alone, which the others are compared with."""
    return Arm(HEAD, HEAD, ((),) * trials)


def named_arms(words: Sequence[str], trials: int) -> list[Arm]:
    """One arm for each word of ``--layers``, its layers joined by commas.

    Raises:
        UserError: a word that names no layer, one layer twice, or the layers of another word.
    """
    arms: list[Arm] = []
    for word in words:
        layers = tuple(word.split(","))
        if "" in layers or len(set(layers)) < len(layers):
            raise UserError(f"--layers {word!r}: join the layers of one arm by commas, each once, as in layer6,layer8.")
        if any(set(arm.draws[0]) == set(layers) for arm in arms):
            raise UserError(f"--layers {word}: the same layers are named twice.")
        arms.append(Arm(word, NAMED, (layers,) * trials))
    return arms


def ranked_arms(
    rankings: Sequence[str],
    counts: Sequence[int],
    layermem: Table | None,
    usable: Sequence[str],
    *,
    trials: int,
    seed: int,
) -> list[Arm]:
    """The first layers of each ranking, and random layers of the same numbers.

    Args:
        rankings: columns of ``layermem``, from the highest value on, and ``random``.
        counts: numbers of layers.
        layermem: columns ``LAYERMEM_TABLE``; needed for rankings by its columns. A layer without a value, as the first
            one is without a delta, ranks nowhere.
        usable: the layers to choose from, in execution order; other rows of the table are passed over.
        trials: how many trials; each draws random layers of its own.
        seed: of the draws.

    Raises:
        UserError: the same is asked for twice, or there are fewer layers to choose from.
    """
    for flag, values in (("--rank-by", rankings), ("--count", counts)):
        if len(set(values)) < len(values):
            raise UserError(f"{flag} {' '.join(map(str, values))}: names one twice.")
    arms = []
    for ranking in rankings:
        ordered = list(usable) if ranking == RANDOM or layermem is None else _ordered(layermem, ranking, usable)
        for count in counts:
            if count > len(ordered):
                raise UserError(f"--count {count}: {len(ordered)} layers can be ranked by {ranking}; ask for fewer.")
            drawn = [
                _drawn(usable, count, seed, trial) if ranking == RANDOM else ordered[:count] for trial in range(trials)
            ]
            draws = tuple(tuple(layer for layer in usable if layer in layers) for layers in drawn)
            arms.append(Arm(f"{ranking}-{count}", ranking, draws))
    return arms


def _drawn(usable: Sequence[str], count: int, seed: int, trial: int) -> list[str]:
    return [usable[row] for row in permutation(seed, trial, len(usable))[:count].tolist()]


def _ordered(layermem: Table, column: str, usable: Sequence[str]) -> list[str]:
    """Layers from the highest value down; of equal ones the first to run comes first."""
    ranked = [
        (float(value), str(layer))
        for layer, value in zip(layermem["layer"], layermem[column], strict=True)
        if layer in usable and np.isfinite(value)
    ]
    return [layer for _, layer in sorted(ranked, key=lambda pair: -pair[0])]
