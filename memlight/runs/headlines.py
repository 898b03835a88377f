"""The few numbers that stand for one analysis: the same names on the compare page and in a W&B summary."""

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from memlight.storage.rundir import MEMBERS
from memlight.storage.tables import Table

INTERVALS = ("contrast/last", "contrast/peak", "unit_contrast/last", "own_max_share/last")
"""Numbers with an interval of their own, as ``<name>_low`` and ``<name>_high``."""

HEADLINES = {
    "contrast/last": "layermem",
    "contrast/peak": "layermem",
    "layermem/last": "layermem",
    "unitmem/last": "unitmem",
    "unit_contrast/last": "unitmem",
    "own_max_share/last": "unitmem",
    "classmem/last": "classmem",
    "knn_top1": "probe",
    "linear_top1": "probe",
}
"""Name -> the command of ``analyze.py`` that measures it. ``last`` is the last measured layer, ``peak`` the one with
the highest contrast, whose name is ``contrast/peak_layer``; accuracies are fractions, of the first of ``MEMBERS`` that
was probed, or of an encoder that was not trained here."""

COLUMNS = (
    *(column for name in HEADLINES for column in (name, *((f"{name}_low", f"{name}_high") * (name in INTERVALS)))),
    "contrast/peak_layer",
)
"""Every key that `headlines` can give."""


def headlines(command: str, tables: Mapping[str, Table]) -> dict[str, float | str]:
    """The numbers of one analysis; none for a command that has none.

    Args:
        command: the command of ``analyze.py``.
        tables: its tables by name, as `memlight.storage.tables` describes them.

    Returns:
        A part of ``COLUMNS``; NaN where a number is not defined.
    """
    match command:
        case "layermem" if "table" in tables:
            return _layermem(tables["table"])
        case "unitmem" if "layers" in tables:
            return _unitmem(tables["layers"])
        case "classmem" if "layers" in tables:
            return {"classmem/last": float(tables["layers"]["mean"][-1])}
        case "probe" if "table" in tables:
            return _probe(tables["table"])
    return {}


def rows_by_depth(command: str, tables: Mapping[str, Table]) -> Iterator[dict[str, float]]:
    """The finite numbers of an analysis layer by layer, with ``depth`` and ``relative_depth`` from 0 to 1.

    Args:
        command: the command of ``analyze.py``; nothing of those that have no table with a row per layer.
        tables: its tables by name.
    """
    table = tables.get(_BY_DEPTH.get(command, ""), {})
    count = len(table.get("layer", ()))
    for row in range(count):
        numbers = {name: float(column[row]) for name, column in table.items() if name != "layer"}
        numbers["relative_depth"] = row / (count - 1) if count > 1 else 1.0
        yield {name: value for name, value in numbers.items() if np.isfinite(value)}


_BY_DEPTH = {"layermem": "table", "unitmem": "layers", "classmem": "layers"}


def _layermem(table: Table) -> dict[str, float | str]:
    found = {**_at(table, -1, "contrast", "contrast/last"), "layermem/last": float(table["layermem"][-1])}
    if np.isfinite(table["contrast"]).any():
        peak = int(np.nanargmax(table["contrast"]))
        found |= _at(table, peak, "contrast", "contrast/peak")
        return {**found, "contrast/peak_layer": str(table["layer"][peak])}
    return {**found}


def _unitmem(layers: Table) -> dict[str, float | str]:
    found = {"unitmem/last": float(layers["mean"][-1])}
    if "unit_contrast" in layers:
        shares = {f"share{end}": layers[f"own_max{name}"] for end, name in _SHARE.items()}
        found |= _at(layers, -1, "unit_contrast", "unit_contrast/last") | _at(shares, -1, "share", "own_max_share/last")
    return {**found}


_SHARE = {"": "_share", "_low": "_low", "_high": "_high"}


def _probe(table: Table) -> dict[str, float | str]:
    found: dict[str, float | str] = {}
    member = next((role for role in (*MEMBERS, "encoder") if role in table["member"]), None)
    for evaluation in ("knn", "linear"):
        rows: NDArray[np.intp] = np.flatnonzero((table["member"] == member) & (table["evaluation"] == evaluation))
        if len(rows):
            found[f"{evaluation}_top1"] = float(table["top1"][rows[0]])
    return found


def _at(table: Table, row: int, column: str, name: str) -> dict[str, float]:
    return {f"{name}{end}": float(table[f"{column}{end}"][row]) for end in ("", "_low", "_high")}
