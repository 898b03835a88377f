"""What an analysis is: the command line, the report, W&B and the comparison of runs are derived from it.

Each folder of `memlight.analyses` declares one in its ``__init__``; `memlight.analyses.registry` lists them all.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Literal

from memlight.commands import Command, CommandGroup
from memlight.storage.schema import Schema


@dataclass(frozen=True)
class Number:
    """A headline number: one of the few that stand for an analysis.

    Attributes:
        title: its heading on the page that compares runs; one without a title stands in the tables only.
        interval: the headline also has ``<name>_low`` and ``<name>_high``, its 95 % interval.
        percent: a share of 1, shown in per cent.
        digits: decimals on a page.
        panel: title of its panel among the dots of the page that compares runs; empty for none.
        chance: what it is where nothing is memorised.
    """

    title: str = ""
    interval: bool = False
    percent: bool = False
    digits: int = 3
    panel: str = ""
    chance: float = 0.0


@dataclass(frozen=True)
class Curve:
    """A number by layer, as runs are compared by it.

    Attributes:
        column: where it stands in the analysis's table by layer.
        title: its heading on the page of repetitions.
        digits: decimals there.
        interval: columns of its lower and upper end; empty for none.
    """

    column: str
    title: str
    digits: int = 4
    interval: tuple[str, str] | tuple[()] = ()


@dataclass(frozen=True)
class Analysis:
    """One question that is asked of a run.

    Attributes:
        name: the command of ``analyze.py``, and the name of its results' directory.
        command: a function whose signature gives the flags and whose docstring gives the help; or several of them.
        tables: name of each table that it may write -> its columns.
        docs: its page in ``docs/``.
        answers: what it answers, as a phrase for the lists of analyses in README.md and docs/README.md.
        heading: of its section in the report; an analysis without one has none.
        section: gives the HTML of its section from a run; empty where the run has no such results.
        missed: whether the report says how to make it where a run does not have it.
        headline: gives the headline numbers from its tables, for W&B's summary and the comparison of runs.
        numbers: which those are; ``last`` in a name is the last measured layer, ``peak`` the highest one.
        words: of the headline, what is not a number.
        by_layer: the table with a row for each layer, which W&B draws by depth.
        beside: other tables that headline numbers are from, where a result has them.
        curves: columns of ``layers.csv`` of the comparison of runs -> where they come from.
    """

    name: str
    command: Command | CommandGroup
    tables: Mapping[str, Schema] = field(default_factory=dict)
    docs: str = ""
    answers: str = ""
    heading: str = ""
    section: Callable[[Any], str] | None = None
    missed: Literal["never", "in pairs", "always"] = "never"
    headline: Callable[[Mapping[str, Any]], Mapping[str, float | str]] | None = None
    numbers: Mapping[str, Number] = field(default_factory=dict)
    words: tuple[str, ...] = ()
    by_layer: str = ""
    beside: tuple[str, ...] = ()
    curves: Mapping[str, Curve] = field(default_factory=dict)

    def schema(self, table: str) -> Schema:
        """The columns of one of its tables.

        Raises:
            ValueError: it has no such table.
        """
        if table not in self.tables:
            raise ValueError(f"{self.name} declares no table {table!r}, only {', '.join(self.tables) or 'none'}")
        return self.tables[table]

    def compared_columns(self) -> dict[str, str]:
        """Columns of the comparison's ``layers.csv`` that are this analysis's -> columns of its table by layer."""
        found: dict[str, str] = {}
        for name, curve in self.curves.items():
            found |= {name: curve.column, **{end.replace(curve.column, name, 1): end for end in curve.interval}}
        return found

    def headlines(self, tables: Mapping[str, Any]) -> dict[str, float | str]:
        """Its headline numbers; none where their table is not among ``tables``."""
        return dict(self.headline(tables)) if self.headline is not None else {}


def later(module: str, name: str) -> Callable[..., Any]:
    """A function of a module that is imported when it is first called: a page's section is of no use to ``--help``."""

    def call(*args: Any, **kwargs: Any) -> Any:
        return getattr(import_module(module), name)(*args, **kwargs)

    return call


def with_ends(table: Mapping[str, Any], row: int, column: str, name: str) -> dict[str, float]:
    """A number of a table with the ends of its interval, as headline numbers: ``<name>``, ``_low`` and ``_high``."""
    return {f"{name}{end}": float(table[f"{column}{end}"][row]) for end in ("", "_low", "_high")}


def rows_by_depth(table: Mapping[str, Any]) -> Iterator[dict[str, float]]:
    """The finite numbers of a table layer by layer, with ``depth`` and ``relative_depth`` from 0 to 1.

    Args:
        table: with a row for each layer; nothing for an empty one.
    """
    count = len(table.get("layer", ()))
    for row in range(count):
        numbers = {name: float(column[row]) for name, column in table.items() if name != "layer"}
        numbers["relative_depth"] = row / (count - 1) if count > 1 else 1.0
        yield {name: value for name, value in numbers.items() if math.isfinite(value)}


def numbers_by_layer(table: Mapping[str, Any], *names: str) -> dict[str, float]:
    """Columns of a table with a row for each layer as numbers for W&B and the summary: ``<name>/<layer>``.

    Args:
        table: with a column ``layer``.
        names: of the columns; those that the table lacks are left out.
    """
    layers = table["layer"]
    return {
        f"{name}/{layer}": float(value)
        for name in names
        if name in table
        for layer, value in zip(layers, table[name], strict=True)
    }
