"""Tables of a pruning study with made-up numbers, for the tests of its chart and words."""

import numpy as np

from memlight.analyses.effects import Verdict
from memlight.analyses.prune.columns import PRUNE_EFFECTS, PRUNE_TABLE
from memlight.storage.tables import Table

SHARES = [(scope, ratio) for scope in ("layer", "model") for ratio in (0.1, 0.2)]
RANDOM = (0.02, 0.03, 0.04)
"""Drops of the random draws."""

VERDICTS: dict[tuple[str, float], tuple[Verdict, Verdict]] = {
    ("layer", 0.1): ("costs more", "costs less"),
    ("layer", 0.2): ("costs more", "not decidable"),
    ("model", 0.1): ("not decidable", "costs more"),
    ("model", 0.2): ("not decidable", "not decidable"),
}
"""Of the highest and of the lowest scores."""


def copies() -> Table:
    """An unpruned copy that is right on 80 %, and five copies for each scope and ratio."""
    rows: list[tuple[object, ...]] = [("none", "none", 0.0, 0, 0, 0.8, 0.7, 0.0)]
    for scope, ratio in SHARES:
        for mode, trial, drop in (
            ("top", 0, 0.05),
            *(("random", t, d) for t, d in enumerate(RANDOM)),
            ("low", 0, -0.01),
        ):
            rows.append((mode, scope, ratio, trial, 112, 0.8 - drop, 0.7, drop))
    return {name: np.array(cells) for name, cells in zip(PRUNE_TABLE, zip(*rows, strict=True), strict=True)}


def effects() -> Table:
    """What `copies` lost, with intervals that differ from row to row."""
    rows: list[tuple[object, ...]] = []
    for scope, ratio in SHARES:
        for mode, drop, dead, verdict in zip(
            ("top", "low"), (0.05, -0.01), (0, 3), VERDICTS[scope, ratio], strict=True
        ):
            wide = 0.01 * (1 + len(rows))
            spread = (0.03 - ratio / 10, 0.03 + ratio / 10)
            excess = drop - 0.03
            of_excess = (excess, excess - 2 * wide, excess + 2 * wide)
            of_drop = (drop, drop - wide, drop + wide)
            claimed = (verdict, 0.5 if verdict == "not decidable" else 0.01, excess - 3 * wide, excess + 3 * wide)
            rows.append((scope, ratio, mode, 112, dead, *of_drop, 0.03, *spread, 3, *of_excess, *claimed))
    return {name: np.array(cells) for name, cells in zip(PRUNE_EFFECTS, zip(*rows, strict=True), strict=True)}
