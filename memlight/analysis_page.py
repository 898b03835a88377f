"""Parts of the report that every analysis has: its heading, its figures, the rows of its tables."""

from html import escape
from typing import Any

from memlight import page
from memlight.rundir import AnalysisDir
from memlight.tables import Table, read_json


def heading(analysis: AnalysisDir) -> str:
    """The tag, by which results of one command are told apart; nothing for the plain one."""
    return f"<h3>{escape(analysis.tag)}</h3>" if analysis.tag else ""


def figures(analysis: AnalysisDir) -> str:
    """Every figure that the summary names and that is there, with its caption."""
    captions = read_json(analysis.summary)["figures"]
    files = {name: analysis.figures / f"{name}.png" for name in captions}
    return "".join(page.picture(path.read_bytes(), captions[name]) for name, path in files.items() if path.is_file())


def rows_of(table: Table) -> list[dict[str, Any]]:
    """A dictionary for every row, with Python's numbers."""
    return [dict(zip(table, cells, strict=True)) for cells in zip(*(c.tolist() for c in table.values()), strict=True)]
