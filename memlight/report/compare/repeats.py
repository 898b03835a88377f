"""Repetitions of one experiment: mean and spread over runs that differ in seeds alone. No torch."""

import shlex
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
from scipy.special import stdtrit

from memlight.analyses.layermem.agreement import RANKED_SPLITS, pairwise_agreement
from memlight.analyses.layermem.columns import LAYERMEM_SAMPLES
from memlight.analyses.registry import curves
from memlight.analyses.verdicts import StandardErrors
from memlight.errors import UserError
from memlight.report.compare.groups import Spread, default_keys, spread_of
from memlight.report.compare.runs import COMPARE_GROUPS, REPEATS_AGREEMENT, REPEATS_LAYERS, REPEATS_NUMBERS, ComparedRun
from memlight.runs.settings import setting_text
from memlight.storage.run_files import SplitsFile, Summary
from memlight.storage.schema import required
from memlight.storage.tables import Table, read_json, read_table, table_of

EXPECTED = {"contrast": 0.0, "unit_contrast": 0.0, "own_max_share": 0.5}
"""Numbers by layer, and what they are where nothing is memorised."""


def require_repetitions(runs: Sequence[ComparedRun]) -> None:
    """Refuse runs whose spread would not be that of repeated trainings.

    Raises:
        UserError: they differ in more than seeds; names the settings and the command for such runs.
    """
    keys = default_keys(runs)
    if not keys:
        return
    values = [(key, dict.fromkeys(setting_text(run.settings.get(key)) or "not set" for run in runs)) for key in keys]
    told = "; ".join(f"{key} ({', '.join(found)})" for key, found in values)
    command = shlex.join(["analyze.py", "compare", "--runs", *(str(run.run.root) for run in runs)])
    raise UserError(
        "runs", None, f"these are no repetitions of one experiment: they differ in {told}", f"try `{command}`"
    )


def layers_of(runs: Sequence[ComparedRun]) -> list[str]:
    """Every layer that any run measured, in execution order."""
    lists = sorted((run.layers["layer"].tolist() for run in runs), key=len, reverse=True)
    return list(dict.fromkeys(layer for layers in lists for layer in layers))


def repeats_by_layer(runs: Sequence[ComparedRun]) -> Table:
    """Every number of every layer over the runs: the columns ``REPEATS_LAYERS``, without what no run has."""
    rows: list[tuple[Any, ...]] = []
    for name in curves():
        for depth, layer in enumerate(layers_of(runs)):
            of_layer = [run.layers[name][run.layers["layer"] == layer] for run in runs]
            found = spread_of(np.concatenate(of_layer).astype(np.float64))
            if found.runs:
                rows.append((layer, depth, name, *_columns(found)))
    return with_claims(table_of(required(REPEATS_LAYERS), rows))


def with_claims(means: Table) -> Table:
    """Add what may be said of numbers that are known where nothing is memorised (`EXPECTED`); NaN elsewhere.

    They are tested over the runs by Student's t, all layers of a number together by Holm's step-down Bonferroni: runs
    are too few for flips of sign, which give no p below 2 to the power of 1 - runs. NaN where all runs are equal.

    Args:
        means: columns ``REPEATS_LAYERS`` that no table may lack.
    """
    claims = {name: np.full(len(means["number"]), np.nan) for name in REPEATS_LAYERS if name not in means}
    for name, expected in EXPECTED.items():
        of = np.flatnonzero(means["number"] == name)
        if len(of):
            for column, values in _over_runs({key: cells[of] for key, cells in means.items()}, expected).items():
                claims[column][of] = values
    return {**means, **claims}


def _over_runs(means: Table, expected: float) -> Table:
    """What may be said of one number over the runs, of all layers together."""
    half = means["mean_high"] - means["mean"]
    degrees = np.maximum(means["runs"] - 1.0, 1.0)
    error = np.where(half > 0, half, np.nan) / stdtrit(degrees, 0.975)
    found = StandardErrors(error, np.zeros(len(half)), degrees).claims("mean", means["mean"] - expected)
    p = {"p_adjusted": found["mean_p_adjusted"]}
    return {**p, **{name: found[name] + expected for name in ("mean_simultaneous_low", "mean_simultaneous_high")}}


def repeats_of_headlines(runs: Sequence[ComparedRun]) -> Table:
    """The headline numbers of every analysis that all runs have, those with a tag too: columns ``REPEATS_NUMBERS``.

    Raises:
        UserError: a summary is damaged.
    """
    found = [{name: read_json(path, Summary)["headline"] for name, path in run.run.summaries().items()} for run in runs]
    rows: list[tuple[Any, ...]] = []
    for analysis in (name for name in found[0] if all(name in of_run for of_run in found)):
        headlines = [of_run[analysis] for of_run in found]
        for number in (name for name in headlines[0] if all(_is_number(of.get(name)) for of in headlines)):
            values = np.array([of_run[number] for of_run in headlines], dtype=np.float64)
            rows.append((analysis, number, *_columns(spread_of(values))))
    return table_of(REPEATS_NUMBERS, rows)


def in_some_runs(runs: Sequence[ComparedRun]) -> dict[str, list[str]]:
    """Analyses that only some runs have, and the names of those that lack them."""
    every = dict.fromkeys(name for run in runs for name in run.run.summaries())
    lacking = {name: [run.name for run in runs if name not in run.run.summaries()] for name in every}
    return {name: names for name, names in lacking.items() if names}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _columns(found: Spread) -> tuple[float, ...]:
    return tuple(getattr(found, name) for name in [*COMPARE_GROUPS][1:])


def same_splits(runs: Sequence[ComparedRun]) -> list[list[ComparedRun]]:
    """Runs that were trained on the same images in the same roles, together; those without layermem are left out."""
    groups: dict[str, list[ComparedRun]] = {}
    for run in runs:
        if "layermem" in run.summaries:
            groups.setdefault(read_json(run.run.splits, SplitsFile)["sha256"], []).append(run)
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
