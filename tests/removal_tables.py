"""Tables of a removal study with numbers that are easy to read: 4 of 20 candidates left out, two draws."""

import numpy as np

from memlight.analyses.removal.columns import REMOVAL_ARMS, REMOVAL_CLASSES, REMOVAL_EFFECTS, REMOVAL_TABLE
from memlight.storage.tables import Table


def table() -> Table:
    rows = [
        ("none", 0, 0, 0.8, 0.7, 0.0),
        ("top", 0, 4, 0.75, 0.66, 0.05),
        ("low", 0, 4, 0.81, 0.69, -0.01),
        ("random", 1, 4, 0.78, 0.67, 0.02),
        ("random", 2, 4, 0.76, 0.68, 0.04),
    ]
    return _columns(REMOVAL_TABLE, rows)


def effects() -> Table:
    rows = [
        ("top", 4, 0.05, 0.03, 0.07, 0.03, 0.01, 0.05, 2, 0.02, 0.005, 0.035, "costs more", 0.02, 0.002, 0.038),
        ("low", 4, -0.01, -0.03, 0.01, 0.03, 0.01, 0.05, 2, -0.04, -0.09, 0.01, "not decidable", 0.08, -0.1, 0.02),
    ]
    return _columns(REMOVAL_EFFECTS, rows)


def arms() -> Table:
    rows = [
        ("none", 0, 0, "layer8", np.nan, 0, 0.0, 64, 4),
        ("top", 0, 4, "layer8", 0.3, 4, 0.15, 60, 3),
        ("low", 0, 4, "layer8", -0.2, 0, 0.6, 60, 3),
        ("random", 1, 4, "layer8", 0.1, 1, 0.15, 60, 3),
        ("random", 2, 4, "layer8", 0.0, 2, 0.1, 60, 3),
    ]
    return _columns(REMOVAL_ARMS, rows)


def classes() -> Table:
    removed = {("top", 0): (3, 1), ("low", 0): (0, 4), ("random", 1): (3, 1), ("random", 2): (1, 3)}
    rows = [
        (arm, trial, number, ("cat", "dog")[number], count, (12, 8)[number])
        for (arm, trial), counts in removed.items()
        for number, count in enumerate(counts)
    ]
    return _columns(REMOVAL_CLASSES, rows)


def _columns(names: tuple[str, ...], rows: list[tuple[object, ...]]) -> Table:
    return {name: np.array(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
