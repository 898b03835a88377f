"""What the columns of a table are: their types on disk, and how a page shows them. No numpy: `--help` is quick."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        kind: what its cells are read back as: ``float`` (an empty cell is NaN), ``int``, ``bool`` or ``str``.
        title: its heading on a page; a column without one is not shown there.
        digits: decimals that a page shows of a number.
        percent: a page shows a share of 1 in per cent.
        interval: the columns ``<name>_low`` and ``<name>_high`` hold its 95 % interval, which a page shows as one cell.
        optional: a table may lack it, as one that was written before the column came into use does.
        long: its words may be long and repeat, as paths do: they are read as an array of Python's strings, each kept
            once, and not as one in which all are as wide as the longest.
        names: the column of ids whose images it names; it is filled in where a table is written and names are known.
    """

    kind: type[float] | type[int] | type[bool] | type[str] = float
    title: str = ""
    digits: int = 4
    percent: bool = False
    interval: bool = False
    optional: bool = False
    long: bool = False
    names: str = ""


Schema = Mapping[str, Column]
"""The columns of one table by name, in the order of the file."""


def columns(kind: type[float] | type[int] | type[bool] | type[str], *names: str, optional: bool = False) -> Schema:
    """Several columns of one kind that no page shows."""
    return {name: Column(kind, optional=optional) for name in names}


def path_of(ids: str, name: str = "path") -> Schema:
    """A column with the paths of the images whose ids another column has; of tables without it none is missed.

    Args:
        ids: the column of ids.
        name: of the column of paths.
    """
    return {name: Column(str, "file", optional=True, long=True, names=ids)}


def interval(name: str, *, title: str = "", digits: int = 4, percent: bool = False, optional: bool = False) -> Schema:
    """A number and the two columns of its 95 % interval: ``<name>``, ``<name>_low``, ``<name>_high``."""
    number = Column(float, title, digits, percent, interval=True, optional=optional)
    return {name: number, **columns(float, f"{name}_low", f"{name}_high", optional=optional)}


def required(schema: Schema) -> list[str]:
    """The columns that no table may lack."""
    return [name for name, column in schema.items() if not column.optional]


def claimed(name: str, p: str | None = None) -> Schema:
    """What may be said of a number in its family: adjusted p-value, and the band that holds the whole family at once.

    The columns are ``<name>_p_adjusted`` (or ``p``), ``<name>_simultaneous_low`` and ``<name>_simultaneous_high``; a
    table that was written before there were such lacks them.
    """
    adjusted = {p or f"{name}_p_adjusted": Column(float, "p, adjusted", digits=4, optional=True)}
    return {**adjusted, **columns(float, f"{name}_simultaneous_low", f"{name}_simultaneous_high", optional=True)}


def titled(kind: type[float] | type[int] | type[bool] | type[str], digits: int = 4, /, **titles: str) -> Schema:
    """Several columns of one kind that a page shows under these titles: ``titled(float, 3, mean="mean score")``."""
    return {name: Column(kind, title, digits) for name, title in titles.items()}
