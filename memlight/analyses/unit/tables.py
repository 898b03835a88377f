"""What a trained unit answers to, as tables."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from memlight.analyses.unit.columns import UNIT_TABLE
from memlight.analyses.unitmem.excess import layer_null
from memlight.errors import UserError
from memlight.metrics.unitmem import UnitMemResult
from memlight.storage.tables import Table


class Point(NamedTuple):
    """One measurement: what training did until then, and what the layer's units are now."""

    method: str
    epoch: int
    loss: float
    result: UnitMemResult


def chosen_unit(start: UnitMemResult, unit: int | None) -> int:
    """The unit asked for, or the median one by UnitMem of those that fire: the lower of the middle two.

    Raises:
        UserError: no unit fires.
    """
    if unit is not None:
        return unit
    alive = (~start.dead).nonzero().flatten()
    if not len(alive):
        raise UserError("--layer: none of its units fires on these images; choose another")
    order = start.unitmem[alive].argsort(stable=True)
    return int(alive[order[(len(alive) - 1) // 2]])


def unit_table(points: Sequence[Point], unit: int, ids: Sequence[int]) -> Table:
    """What the unit answers to at each measurement, with the score expected of exchangeable images.

    Args:
        points: measurements with the table of mu kept.
        unit: the unit.
        ids: the chosen images.
    """
    columns: dict[str, list[str | int | float]] = {name: [] for name in UNIT_TABLE}
    for point in points:
        result = point.result
        assert result.mu is not None
        mu_N = result.mu[:, unit].double()
        of_ids = mu_N[torch.isin(result.ids, torch.tensor(ids, device=result.ids.device))]
        null_mean, null_p95 = layer_null(result)
        row: dict[str, str | int | float] = {
            "method": point.method,
            "epoch": point.epoch,
            "loss": point.loss,
            "unitmem": float(result.unitmem[unit]),
            "null_mean": float(null_mean[unit]),
            "null_p95": float(null_p95[unit]),
            "mu_max": float(result.mu_max[unit]),
            "mu_rest": float(result.mu_rest[unit]),
            "max_id": int(result.max_id[unit]),
            "mu_of_ids": float(of_ids.mean()),
            "rank": rank_of(mu_N, result.ids, ids),
        }
        for name, value in row.items():
            columns[name].append(value)
    return {name: np.array(values) for name, values in columns.items()}


def rank_of(mu_N: Tensor, ids_N: Tensor, chosen: Sequence[int]) -> int:
    """How many images the best of the chosen ones has above it; of equal images the lowest id comes first.

    Args:
        mu_N: ``(N,)`` one unit's activation on each image.
        ids_N: ``(N,)`` ids, ascending.
        chosen: ids, at least one of which is among them.
    """
    order = mu_N.argsort(descending=True, stable=True)
    return int(torch.isin(ids_N[order], torch.tensor(chosen, device=ids_N.device)).to(torch.uint8).argmax())


def units_table(start: UnitMemResult, ends: Mapping[str, UnitMemResult], unit: int) -> Table:
    """UnitMem of all units of the layer before and after (``UNIT_OTHERS``); only the trained one should differ."""
    count = len(start.unitmem)
    before, after = [start] * len(ends), list(ends.values())
    return {
        "method": np.repeat(list(ends), count),
        "unit": np.tile(np.arange(count), len(ends)),
        "trained": np.tile(np.arange(count) == unit, len(ends)),
        "unitmem_before": _column(before, "unitmem"),
        "unitmem_after": _column(after, "unitmem"),
        "max_id_before": _column(before, "max_id"),
        "max_id_after": _column(after, "max_id"),
    }


def unit_headline(table: Table, units: Table) -> dict[str, float]:
    """Numbers for W&B and the summary, by method: UnitMem and rank before and after, and how many others changed.

    Args:
        table: columns ``UNIT_TABLE``.
        units: columns ``UNIT_OTHERS``.
    """
    numbers: dict[str, float] = {}
    for name in dict.fromkeys(table["method"].tolist()):
        rows = np.flatnonzero(table["method"] == name)
        for when, row in (("before", rows[0]), ("after", rows[-1])):
            numbers[f"unitmem_{when}/{name}"] = float(table["unitmem"][row])
            numbers[f"rank_{when}/{name}"] = int(table["rank"][row])
        changed = (units["unitmem_before"] != units["unitmem_after"]) & (units["method"] == name) & ~units["trained"]
        numbers[f"others_changed/{name}"] = int(changed.sum())
    return numbers


def _column(results: Sequence[UnitMemResult], name: str) -> NDArray[Any]:
    """One number of each unit, result after result."""
    return np.concatenate([getattr(result, name).cpu().numpy() for result in results])
