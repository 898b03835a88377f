"""Tables of fine-tuning as they could come out, for its chart and its section."""

import numpy as np
import torch

from memlight.analyses.finetune.arms import Arm, finetune_tables
from memlight.storage.tables import Table

TRIALS, IMAGES = 3, 100
SHARES = {"head": 50, "layer1": 55, "delta-1": 70, "delta-2": 60, "layermem-2": 40, "random-1": 52, "random-2": 60}
"""Arm -> images classified correctly of 100; in the second trial one more, in the third one fewer."""

ARMS = [
    Arm("head", "head", ((),) * TRIALS),
    Arm("layer1", "named", (("layer1",),) * TRIALS),
    Arm("delta-1", "delta", (("layer8",),) * TRIALS),
    Arm("delta-2", "delta", (("layer7", "layer8"),) * TRIALS),
    Arm("layermem-2", "layermem", (("layer1", "layer8"),) * TRIALS),
    Arm("random-1", "random", (("layer1",), ("layer7",), ("layer8",))),
    Arm("random-2", "random", (("layer1", "layer7"), ("layer1", "layer8"), ("layer7", "layer8"))),
]
PARAMETERS = {layers: 10 + 100 * len("".join(layers)) for arm in ARMS for layers in arm.draws}
RIGHT = {
    name: torch.stack([torch.arange(IMAGES) < count + extra for extra in (0, 1, -1)]) for name, count in SHARES.items()
}


def tables(*names: str) -> tuple[Table, Table]:
    """Table and effects of some arms, all if none is named; the head is always there."""
    arms = [arm for arm in ARMS if not names or arm.name in ("head", *names)]
    return finetune_tables(arms, RIGHT, PARAMETERS)


def one_trial() -> tuple[Table, Table]:
    """A single trial of two arms, which has no intervals."""
    arms = [Arm(arm.name, arm.rank_by, arm.draws[:1]) for arm in ARMS[:2]]
    right = {name: answers[:1] for name, answers in RIGHT.items()}
    table, effects = finetune_tables(arms, right, PARAMETERS)
    assert np.isnan(effects["gain_low"]).all()
    return table, effects
