"""Parts of the report that several analyses have: headings, figures, the rows of tables, what a treatment costs."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from html import escape
from pathlib import Path
from typing import Any

from memlight.display import page
from memlight.display.page import Cell
from memlight.errors import UserError
from memlight.storage.documents import YAML_BYTES
from memlight.storage.image_names import printable
from memlight.storage.opening import read_limited
from memlight.storage.run_files import ReleasedFile, Summary
from memlight.storage.rundir import AnalysisDir, RunDir
from memlight.storage.schema import Column, Schema
from memlight.storage.tables import Table, read_json, readable

POINTS = 100
"""Percentage points in a share."""


def heading(analysis: AnalysisDir) -> str:
    """The tag, by which results of one command are told apart; nothing for the plain one."""
    return f"<h3>{escape(analysis.tag)}</h3>" if analysis.tag else ""


def figures(analysis: AnalysisDir) -> str:
    """Every figure that the summary names and that is there, with its caption."""
    captions = read_json(analysis.summary, Summary)["figures"]
    files = {name: analysis.figures / f"{name}.png" for name in captions}
    return "".join(page.picture(path.read_bytes(), captions[name]) for name, path in files.items() if path.is_file())


@contextmanager
def consistent(place: Path) -> Iterator[None]:
    """Within this block, where words and figures are made of what was read, parts that do not fit are the user's.

    Every file of a run has a schema; that a table has the rows that a summary speaks of, it cannot say.

    Args:
        place: what was read.
    """
    try:
        yield
    except (LookupError, TypeError, ValueError, ArithmeticError, StopIteration) as error:
        why = f"{place} was edited or is damaged: its parts do not fit ({type(error).__name__}: {error})"
        raise UserError("run", None, why, "run the command that makes it again") from error


def effect_cells(row: Mapping[str, Any]) -> list[Cell]:
    """What a treatment costs, what random ones do and the excess, in points with their intervals; p and the verdict.

    Args:
        row: of a table of effects in shares of the test images: drop, random and excess with bounds, adjusted p,
            verdict.
    """
    verdict = row["verdict"]
    cells = [
        cell
        for name in ("drop", "random", "excess")
        for cell in (
            page.number(POINTS * row[name], 2),
            page.interval(POINTS * row[f"{name}_low"], POINTS * row[f"{name}_high"], 2),
        )
    ]
    mark = "yes" if verdict.startswith("costs") else "no"
    return [*cells, page.p_value(row["p_adjusted"]), Cell(verdict, verdict, word=True, mark=mark)]


def section(
    command: str, explained: str | Callable[[RunDir], str] = ""
) -> Callable[[Callable[[AnalysisDir], str]], Callable[[RunDir], str]]:
    """Make of a function that gives the HTML of one result one that gives that of all results of a run.

    It gives the explanation and every result of the command; nothing where there are none.

    Args:
        command: the command of ``analyze.py``.
        explained: what stands before the results, or what gives it from the run.
    """

    def of_all(html_of: Callable[[AnalysisDir], str]) -> Callable[[RunDir], str]:
        @wraps(html_of)
        def html(run: RunDir) -> str:
            results = []
            for analysis in run.analyses(command):
                with consistent(analysis.dir):
                    if (path := analysis.table()).is_file() and path.read_bytes().count(b"\n") < 2:
                        raise ValueError(f"{path.name} has no rows")
                    results.append(html_of(analysis))
            if not results:
                return ""
            words = explained(run) if callable(explained) else explained
            return (page.paragraph(words, "soft") if words else "") + "".join(results)

        return html

    return of_all


def provenance(
    run: RunDir, commands: Sequence[str], facts_of: Callable[[Any], Sequence[tuple[str, str]]], nothing: str
) -> str:
    """How every result of these commands was made, and the training's configuration.

    Args:
        run: whose results.
        commands: in the order of the page.
        facts_of: names and words of what else a summary says, after the command line.
        nothing: what to say where there are neither results nor a configuration.
    """
    parts = []
    for analysis in (analysis for command in commands for analysis in run.analyses(command)):
        made = read_json(analysis.summary, Summary)
        with consistent(analysis.summary):
            pairs = [
                ("command", made["command_line"]),
                *facts_of(made),
                ("git commit", made["git_commit"] or "not a git checkout"),
                ("versions", ", ".join(f"{name} {version}" for name, version in made["versions"].items())),
            ]
        parts.append(f"<h3>{analysis.dir.name}</h3>" + page.facts(pairs))
    if run.config.is_file():
        with readable(run.config):
            config = read_limited(run.config, YAML_BYTES).decode()
        parts.append(page.folded("config.yaml of the training", page.listing(config)))
    return "".join(parts) or page.paragraph(nothing, "missing")


def rows_of(table: Table) -> list[dict[str, Any]]:
    """A dictionary for every row, with Python's numbers."""
    return [dict(zip(table, cells, strict=True)) for cells in zip(*(c.tolist() for c in table.values()), strict=True)]


def missing(run: RunDir, command: str) -> str:
    """A line that says that a run was not analysed so, and how it is."""
    which = ""
    if run.released.is_file():
        made = read_json(run.released, ReleasedFile)
        weights = f" --weights {made['weights']['file']}" if made["weights"] else ""
        which = f" --encoder {made['encoder']}{weights} --images {made['images']}"
    return page.paragraph(
        "Not measured yet. Make it with", "missing", code=f"python analyze.py {command}{which} --run {run.root}"
    )


Row = Mapping[str, Any]
"""One row of a table, with Python's numbers."""

Shown = str | tuple[str, Callable[[Row], Cell]]
"""A column of a table on the page: a column's name, or a title and what gives its cell."""


def drawn(table: Table, schema: Schema, *shown: Shown) -> str:
    """A table of the page, drawn as its schema says: titles, decimals, per cent, intervals as one cell.

    Args:
        table: columns of ``schema``.
        schema: says how each is shown.
        shown: what stands in the table, from left to right: names of columns, or a title and a function of the row
            that gives the cell. Without any, every column that has a title.
    """
    chosen = shown or [name for name, column in schema.items() if column.title and name in table]
    header: list[str] = []
    for each in chosen:
        header += (
            [schema[each].title, *(["95 % interval"] * schema[each].interval)] if isinstance(each, str) else [each[0]]
        )
    rows = [
        [
            cell
            for each in chosen
            for cell in (_cells(row, each, schema[each]) if isinstance(each, str) else [each[1](row)])
        ]
        for row in rows_of(table)
    ]
    return page.table(header, rows)


def _cells(row: Row, name: str, column: Column) -> list[Cell]:
    value, scale = row[name], POINTS if column.percent else 1
    if column.long:
        return [page.word(printable(value))]
    if column.kind is str:
        return [Cell(value, row["depth"], word=True) if name == "layer" and "depth" in row else page.word(value)]
    if column.kind is bool:
        return [page.word("yes" if value else "no")]
    cells = [page.number(scale * value, column.digits)]
    if column.interval:
        low, high = row[f"{name}_low"], row[f"{name}_high"]
        cells.append(page.interval(scale * low, scale * high, column.digits))
    return cells
