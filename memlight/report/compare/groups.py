"""Runs in groups: which belong together, what a group's mean is, and over what its spread is. No torch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from memlight.analyses.registry import headline_numbers
from memlight.errors import UserError
from memlight.report.compare.runs import COMPARE_GROUPS, Axis, ComparedRun
from memlight.runs.settings import SEEDS, Setting, differing, setting_text
from memlight.storage.schema import Schema, columns
from memlight.storage.tables import Table


@dataclass(frozen=True)
class Group:
    """Runs with equal values of the settings that are grouped by.

    Attributes:
        values: those settings.
        runs: in the order given.
    """

    values: dict[str, Setting]
    runs: list[ComparedRun]

    @property
    def label(self) -> str:
        """A single run's name, or the settings that the runs share."""
        if len(self.runs) == 1:
            return self.runs[0].name
        return (
            ", ".join(f"{key} {setting_text(value) or 'not set'}" for key, value in self.values.items()) or "all runs"
        )


@dataclass(frozen=True)
class Curve:
    """A number by depth.

    Attributes:
        x: relative depths, ascending.
        middle: of one run its value, of several their mean.
        low: of one run the lower end of its interval over images, of several the lowest of them.
        high: of one run the upper end of its interval over images, of several the highest of them.
    """

    x: NDArray[np.float64]
    middle: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


@dataclass(frozen=True)
class Spread:
    """One number over the runs of a group.

    Attributes:
        runs: how many have it.
        mean: over them.
        lowest: of them.
        highest: of them.
        mean_low: end of the mean's 95 % interval: of several runs by Student's t over runs, of one run its own over
            images; NaN where there is neither.
        mean_high: the other end.
    """

    runs: int
    mean: float
    lowest: float
    highest: float
    mean_low: float
    mean_high: float


def default_keys(runs: Sequence[ComparedRun]) -> list[str]:
    """Every setting that differs, the seeds aside: runs of a group are then repetitions of one experiment."""
    return [key for key in differing([run.settings for run in runs]) if key not in SEEDS]


def group_runs(runs: Sequence[ComparedRun], by: Sequence[str]) -> list[Group]:
    """Runs with equal values of ``by``, the groups in ascending order of these.

    Raises:
        UserError: no run has such a setting; lists those there are.
    """
    known = dict.fromkeys(key for run in runs for key in run.settings)
    for key in by:
        if key not in known:
            differ = differing([run.settings for run in runs])
            shared = ", ".join(name for name in known if name not in differ) or "none"
            why = f"no such setting; the runs differ in {', '.join(differ) or 'none'}, and share {shared}"
            raise UserError("by", key, why)
    found: dict[tuple[str, ...], Group] = {}
    for run in runs:
        values = {key: run.settings.get(key) for key in by}
        found.setdefault(tuple(map(repr, values.values())), Group(values, [])).runs.append(run)
    return sorted(found.values(), key=lambda group: [_order(value) for value in group.values.values()])


def spread_words(groups: Sequence[Group]) -> str:
    """Over what the runs of a group are spread: seeds alone, or more than that."""
    several = [group.runs for group in groups if len(group.runs) > 1]
    if not several:
        return "Every group is a single run: intervals are over its images, and say nothing about another training."
    varying = dict.fromkeys(key for runs in several for key in differing([run.settings for run in runs]))
    other = [key for key in varying if key not in SEEDS]
    if other:
        return f"Runs of a group also differ in {', '.join(other)}: their spread is not that of repeated trainings."
    if any(not differing([run.settings for run in runs]) for runs in several):
        return "Some runs of a group do not even differ in a seed: their spread says nothing about other trainings."
    return f"Runs of a group differ in {' and '.join(varying)} alone."


def spread(group: Group, name: str) -> Spread:
    """A headline number over a group; see `memlight.analyses.registry.headline_numbers`."""
    found = spread_of(np.array([run.number(name) for run in group.runs]))
    if found.runs != 1 or not headline_numbers()[name].interval:
        return found
    (run,) = (run for run in group.runs if math.isfinite(run.number(name)))
    return replace(found, mean_low=run.number(f"{name}_low"), mean_high=run.number(f"{name}_high"))


def spread_of(numbers: NDArray[np.float64]) -> Spread:
    """A number over runs, of which those count that have it; a single one has no interval."""
    values = numbers[np.isfinite(numbers)]
    if len(values) == 0:
        return Spread(0, *[math.nan] * 5)
    low, high = mean_interval(values) if len(values) > 1 else (math.nan, math.nan)
    return Spread(len(values), float(values.mean()), float(values.min()), float(values.max()), low, high)


def mean_interval(values: NDArray[np.float64], confidence: float = 0.95) -> tuple[float, float]:
    """Student's t interval of the mean of a sample of two or more."""
    from scipy.special import stdtrit  # scipy.stats takes most of a second to import

    half = float(stdtrit(len(values) - 1, 0.5 + confidence / 2) * values.std(ddof=1) / math.sqrt(len(values)))
    return float(values.mean()) - half, float(values.mean()) + half


def run_curve(run: ComparedRun, axis: Axis, name: str) -> Curve:
    """A column of ``layers.csv`` over one run, with its interval where it has one."""
    x, order = np.sort(axis.depth[run.name]), np.argsort(axis.depth[run.name], kind="stable")
    middle = run.layers[name][order]
    low, high = (run.layers[end][order] if end in run.layers else middle for end in (f"{name}_low", f"{name}_high"))
    measured = np.isfinite(middle)
    return Curve(x[measured], middle[measured], low[measured], high[measured])


def group_curve(group: Group, axis: Axis, name: str) -> Curve:
    """A column of ``layers.csv`` over a group: the mean of its runs, from the lowest to the highest.

    Runs that were measured at other depths, as other architectures are, are interpolated linearly between their layers;
    the curve covers the depths that all of them do.
    """
    curves = [curve for run in group.runs if len((curve := run_curve(run, axis, name)).x)]
    if len(group.runs) == 1 or not curves:
        return run_curve(group.runs[0], axis, name)
    start, end = max(curve.x[0] for curve in curves), min(curve.x[-1] for curve in curves)
    x = np.unique(np.concatenate([curve.x for curve in curves]))
    x = x[(x >= start) & (x <= end)]
    values = np.stack([np.interp(x, curve.x, curve.middle) for curve in curves])
    return Curve(x, values.mean(axis=0), values.min(axis=0), values.max(axis=0))


def groups_table(groups: Sequence[Group]) -> tuple[Table, Schema]:
    """One row per group and headline number that any run has.

    Returns:
        The table and its columns: the settings grouped by, then ``COMPARE_GROUPS``.
    """
    keys = tuple(groups[0].values)
    names = [name for name in headline_numbers() if any(spread(group, name).runs for group in groups)]
    rows = [(group, name, spread(group, name)) for group in groups for name in names]
    table: Table = {key: np.array([setting_text(group.values[key]) for group, _, _ in rows]) for key in keys}
    table["number"] = np.array([name for _, name, _ in rows])
    for column in [*COMPARE_GROUPS][1:]:
        table[column] = np.array([getattr(found, column) for _, _, found in rows])
    return table, {**columns(str, *keys), **COMPARE_GROUPS}


def _order(value: Setting) -> tuple[int, float, str]:
    """Numbers by size, then words by letter, then what is not set."""
    if isinstance(value, int | float):
        return 0, float(value), ""
    return (1, 0.0, value) if isinstance(value, str) else (2, 0.0, "")
