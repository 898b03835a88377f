"""Do trainings with other seeds rank the same images highest? No torch."""

from collections.abc import Sequence
from itertools import chain

import numpy as np

from memlight.analyses.layermem.agreement import RANKED_SPLITS, pairwise_agreement
from memlight.analyses.layermem.columns import LAYERMEM_SAMPLES
from memlight.errors import UserError
from memlight.report.compare.columns import REPEATS_AGREEMENT
from memlight.report.compare.runs import ComparedRun
from memlight.storage.tables import Table, read_json, read_table


def same_splits(runs: Sequence[ComparedRun]) -> list[list[ComparedRun]]:
    """Runs that were trained on the same images in the same roles, together; those without layermem are left out."""
    groups: dict[str, list[ComparedRun]] = {}
    for run in runs:
        if "layermem" in run.summaries:
            groups.setdefault(str(read_json(run.run.splits).get("sha256")), []).append(run)
    return list(groups.values())


def agreement_of_runs(runs: Sequence[ComparedRun]) -> Table:
    """Every two runs of the same splits on every layer that both measured: the columns ``REPEATS_AGREEMENT``.

    External images are left out where runs scored others of them (``--external``).

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
            of_layer = [_by_id(_rows(table, "layer", layer)) for table in of_split]
            if not all(len(table["id"]) for table in of_layer):
                continue
            if all(np.array_equal(of_layer[0]["id"], table["id"]) for table in of_layer):
                scores = np.stack([table["score"] for table in of_layer])
                agreement = pairwise_agreement([run.name for run in group], scores, "run")
                same = {"split": np.full(len(agreement["n"]), split), "layer": np.full(len(agreement["n"]), layer)}
                found.append({**same, **agreement})
            elif split == "candidate":
                raise UserError(
                    "--runs: layermem/samples.csv has not all candidates of splits.json; run layermem again."
                )
    return found


def _rows(table: Table, column: str, value: str) -> Table:
    of_value = table[column] == value
    return {name: cells[of_value] for name, cells in table.items()}


def _by_id(table: Table) -> Table:
    order = np.argsort(table["id"], kind="stable")
    return {name: cells[order] for name, cells in table.items()}
