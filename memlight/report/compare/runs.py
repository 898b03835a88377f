"""Several runs side by side: their settings, their headline numbers, and their layers on one axis. No torch."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from memlight.analyses.registry import ANALYSES, headline_columns, headline_words
from memlight.display.parts import consistent
from memlight.errors import UserError, named
from memlight.runs.analysis import Analysis
from memlight.runs.settings import Setting, differing, flat_settings, recorded_settings, setting_text
from memlight.storage.run_files import Summary
from memlight.storage.rundir import RunDir
from memlight.storage.schema import Column, Schema, claimed, columns, interval
from memlight.storage.tables import Table, read_json, read_table

COMPARE_GROUPS: Schema = {
    **columns(str, "number"),
    **columns(int, "runs"),
    "mean": Column(float, "mean", interval=True),
    "lowest": Column(float, "lowest"),
    "highest": Column(float, "highest"),
    **columns(float, "mean_low", "mean_high"),
}

REPEATS_LAYERS: Schema = {
    **columns(str, "layer"),
    **columns(int, "depth"),
    **COMPARE_GROUPS,
    **claimed("mean", "p_adjusted"),
}

REPEATS_NUMBERS: Schema = {
    "analysis": Column(str, "analysis"),
    **COMPARE_GROUPS,
    "number": Column(str, "number"),
}

REPEATS_AGREEMENT: Schema = {
    "split": Column(str, "images"),
    "layer": Column(str, "layer"),
    "run_a": Column(str, "run"),
    "run_b": Column(str, "run"),
    "n": Column(int, "n"),
    "top": Column(int, "size of a top"),
    "overlap": Column(int, "in both tops"),
    "chance": Column(float, "unrelated", digits=1),
    **columns(int, "chance_p95"),
    **interval("tau", title="tau", digits=3),
}


_IDLE_FLAGS = frozenset({"--run", "--root", "--device", "--max-forward", "--logger"})
"""Flags of an analysis that do not change its numbers."""

SHA256_LENGTH = 64


@dataclass(frozen=True)
class ComparedRun:
    """What one run holds that can be compared.

    Attributes:
        name: tells it apart from the others.
        run: its directory.
        settings: flat settings of its training, or of an encoder from elsewhere; empty where they are not recorded.
        numbers: the headline numbers of its analyses; see `memlight.analyses.registry`.
        layers: columns `compare_layers` but run and relative_depth, a row per measured layer; NaN where not measured.
        summaries: ``summary.json`` of each of its analyses, by command.
    """

    name: str
    run: RunDir
    settings: Mapping[str, Setting]
    numbers: Mapping[str, float | str]
    layers: Table
    summaries: Mapping[str, Summary]

    def number(self, name: str) -> float:
        """A headline number; NaN where it was not measured."""
        return float(self.numbers.get(name, np.nan))

    @property
    def missing(self) -> list[str]:
        """Commands whose results are missed where they are not there."""
        return [a.name for a in ANALYSES if a.missed != "never" and a.name not in self.summaries]


@dataclass(frozen=True)
class Axis:
    """Where each layer of each run stands between the first, 0, and the last, 1.

    Attributes:
        layers: names along it where all runs have the layers of one architecture; None where only depth is common.
        depth: run's name -> relative depth of each of its measured layers.
    """

    layers: list[str] | None
    depth: Mapping[str, NDArray[np.float64]]


def open_runs(paths: Sequence[str]) -> list[ComparedRun]:
    """Read what is compared of each run: the results without a tag.

    Args:
        paths: run directories.

    Raises:
        UserError: fewer than two, one of them twice or not a run, or a table is damaged.
    """
    if len(paths) < 2:
        raise UserError("runs", paths, "give at least two runs; `analyze.py report` shows one")
    real = [Path(path).resolve() for path in paths]
    for path, place in zip(paths, real, strict=True):
        if real.count(place) > 1:
            raise UserError("runs", path, "given twice; each run is compared once")
    unique = len({place.name for place in real}) == len(real)
    with named(run="runs"):
        runs = [RunDir.open(path) for path in paths]
        return [_read(run.name if unique else os.path.normpath(run.root), run) for run in runs]


def common_axis(runs: Sequence[ComparedRun]) -> Axis:
    """Layers of different architectures by relative depth, index / (number - 1); those of one by name.

    A run of which only some layers were measured is placed among the layers of the run of the same encoder that has
    most of them.
    """
    names = {run.name: run.layers["layer"].tolist() for run in runs}
    depth, references = {}, []
    for run in runs:
        alike = [names[other.name] for other in runs if other.settings.get("encoder") == run.settings.get("encoder")]
        reference = max(alike, key=len)
        if not set(names[run.name]) <= set(reference):
            reference = names[run.name]
        references.append(reference)
        index = np.array([reference.index(layer) for layer in names[run.name]], dtype=np.float64)
        depth[run.name] = index / (len(reference) - 1) if len(reference) > 1 else np.ones_like(index)
    measured = [reference for reference in references if reference]
    one = bool(measured) and all(reference == measured[0] for reference in measured)
    return Axis(measured[0] if one else None, depth)


def runs_table(runs: Sequence[ComparedRun]) -> tuple[Table, Schema]:
    """One row per run: the settings that differ, then every headline number.

    Returns:
        The table and its columns.
    """
    keys = differing([run.settings for run in runs])
    table = {"run": np.array([run.name for run in runs])}
    for key in keys:
        table[key] = np.array([setting_text(run.settings.get(key)) for run in runs])
    found, words = headline_columns(), headline_words()
    for column in found:
        empty: float | str = "" if column in words else np.nan
        table[column] = np.array([run.numbers.get(column, empty) for run in runs])
    numbers = [column for column in found if column not in words]
    return table, {**columns(str, "run", *keys), **columns(float, *numbers), **columns(str, *words)}


def layers_table(runs: Sequence[ComparedRun], axis: Axis) -> Table:
    """The layers of every run below one another (`compare_layers`)."""
    parts = [
        {"run": np.full(len(run.layers["layer"]), run.name), "relative_depth": axis.depth[run.name], **run.layers}
        for run in runs
    ]
    return {column: np.concatenate([part[column] for part in parts]) for column in compare_layers()}


def measured_otherwise(runs: Sequence[ComparedRun]) -> dict[str, dict[str, list[str]]]:
    """Analyses that were not made with the same flags in all runs.

    Returns:
        Command -> flags as typed, those aside that change no number -> names of the runs.
    """
    found: dict[str, dict[str, list[str]]] = {}
    for command in (analysis.name for analysis in _compared()):
        ways: dict[str, list[str]] = {}
        for run in runs:
            if summary := run.summaries.get(command):
                ways.setdefault(_flags(str(summary["command_line"])), []).append(run.name)
        if len(ways) > 1:
            found[command] = ways
    return found


def same_encoders(runs: Sequence[ComparedRun]) -> list[list[str]]:
    """Names of runs whose analyses read the very same encoder file: copies, and no independent trainings."""
    seen: dict[str, dict[str, None]] = {}
    for run in runs:
        for summary in run.summaries.values():
            for digest in summary["checkpoints"].values():
                if len(digest) == SHA256_LENGTH:  # random weights have none
                    seen.setdefault(digest, {})[run.name] = None
    return [list(names) for names in dict.fromkeys(tuple(names) for names in seen.values()) if len(names) > 1]


def _flags(command_line: str) -> str:
    """What was typed after the command, flags in order, without those in ``_IDLE_FLAGS``."""
    flags = [f"--{flag}".split(maxsplit=1) for flag in f" {command_line}".split(" --")[1:]]
    kept = [" ".join(words) for words in flags if words[0].partition("=")[0] not in _IDLE_FLAGS]
    return " ".join(sorted(kept)) or "no flags"


def _compared() -> list[Analysis]:
    """Analyses that have a headline or a number by layer."""
    return [analysis for analysis in ANALYSES if analysis.numbers or analysis.curves]


def _read(name: str, run: RunDir) -> ComparedRun:
    tables: dict[str, dict[str, Table]] = {}
    numbers: dict[str, float | str] = {}
    summaries: dict[str, Summary] = {}
    for analysis in _compared():
        found = run.analysis(analysis.name)
        if found.summary.is_file():
            beside = [table for table in analysis.beside if found.table(table).is_file()]
            read = (analysis.by_layer or "table", *beside)
            tables[analysis.name] = {table: read_table(found.table(table), analysis.schema(table)) for table in read}
            with consistent(found.dir):
                numbers |= analysis.headlines(tables[analysis.name])
            summaries[analysis.name] = read_json(found.summary, Summary)
    return ComparedRun(name, run, flat_settings(recorded_settings(run)), numbers, _layers(tables), summaries)


def _layers(tables: Mapping[str, Mapping[str, Table]]) -> Table:
    """The layers that any analysis measured, in execution order, with what each found there."""
    by_layer = {analysis.name: tables.get(analysis.name, {}).get(analysis.by_layer, {}) for analysis in ANALYSES}
    lists = sorted((table["layer"].tolist() for table in by_layer.values() if table), key=len, reverse=True)
    names = list(dict.fromkeys(layer for some in lists for layer in some))
    layers: Table = {"layer": np.array(names, dtype=np.str_), "depth": np.arange(len(names))}
    for analysis in ANALYSES:
        table = by_layer[analysis.name]
        for column, source in analysis.compared_columns().items():
            at = dict(zip(table["layer"].tolist(), table[source], strict=True)) if source in table else {}
            layers[column] = np.array([at.get(name, np.nan) for name in names], dtype=np.float64)
    return layers


def compare_layers() -> Schema:
    """The columns of ``layers.csv``: what every analysis has by layer."""
    found = [column for analysis in ANALYSES for column in analysis.compared_columns()]
    return {
        **columns(str, "run", "layer"),
        **columns(int, "depth"),
        **columns(float, "relative_depth", *found),
    }
