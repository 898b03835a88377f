"""Do trainings with other seeds rank the same images highest? No torch."""

from collections.abc import Sequence
from itertools import chain

import numpy as np

from memlight.agreement import RANKED_SPLITS, pairwise_agreement
from memlight.compare.runs import ComparedRun
from memlight.errors import UserError
from memlight.tables import LAYERMEM_SAMPLES, REPEATS_AGREEMENT, Table, read_table


def same_splits(runs: Sequence[ComparedRun]) -> list[list[ComparedRun]]:
    """Runs whose layermem scored the same images in the same roles, together; those without layermem are left out."""
    groups: dict[str, list[ComparedRun]] = {}
    for run in runs:
        if summary := run.summaries.get("layermem"):
            groups.setdefault(str(summary["split_sha256"]), []).append(run)
    return list(groups.values())


def agreement_of_runs(runs: Sequence[ComparedRun]) -> Table:
    """Every two runs of the same splits on every layer that both measured: the columns ``REPEATS_AGREEMENT``.

    Raises:
        UserError: a table is damaged.
    """
    parts = list(chain.from_iterable(_of_group(group) for group in same_splits(runs) if len(group) > 1))
    if not parts:
        return {name: np.array([]) for name in REPEATS_AGREEMENT}
    return {name: np.concatenate([part[name] for part in parts]) for name in REPEATS_AGREEMENT}


def _of_group(group: Sequence[ComparedRun]) -> list[Table]:
    """A table for every split and layer that all runs of a group measured."""
    samples = [read_table(run.run.analysis("layermem").table("samples"), LAYERMEM_SAMPLES) for run in group]
    found = []
    for split in RANKED_SPLITS:
        of_split = [_rows(table, "split", split) for table in samples]
        for layer in dict.fromkeys(of_split[0]["layer"].tolist()):
            of_layer = [_rows(table, "layer", layer) for table in of_split]
            if all(len(table["id"]) for table in of_layer):
                agreement = pairwise_agreement([run.name for run in group], _scores(of_layer), "run")
                same = {"split": np.full(len(agreement["n"]), split), "layer": np.full(len(agreement["n"]), layer)}
                found.append({**same, **agreement})
    return found


def _rows(table: Table, column: str, value: str) -> Table:
    of_value = table[column] == value
    return {name: cells[of_value] for name, cells in table.items()}


def _scores(tables: Sequence[Table]) -> np.ndarray:
    """A row of scores for each run, their images in the order of ids."""
    orders = [np.argsort(table["id"], kind="stable") for table in tables]
    ids = [table["id"][order] for table, order in zip(tables, orders, strict=True)]
    if not all(np.array_equal(ids[0], other) for other in ids):
        raise UserError("--runs: layermem/samples.csv holds other images than its splits say; run layermem again.")
    return np.stack([table["score"][order] for table, order in zip(tables, orders, strict=True)])
