"""Tables and JSON on disk: typed columns, exact floats, and never half a file.

A table is a dictionary of equally long 1-D arrays, stored as CSV with one header row. Floats are written with
``repr``, so reading a table back gives the very same numbers.
"""

import csv
import io
import json
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import yaml
from numpy.typing import NDArray

from memlight.errors import UserError
from memlight.storage.documents import WrongField, read_json_file, read_yaml_file
from memlight.storage.opening import read_limited
from memlight.storage.schema import Schema
from memlight.storage.writing import atomic_write

Table = dict[str, NDArray[Any]]
"""Column name -> 1-D array; every column has the same length."""

TABLE_BYTES = 1 << 33
"""The largest table; it is read into memory."""

_AGAIN = "run the command that makes it again"

_BYTES = "surrogateescape"
"""How bytes that are not UTF-8, which the names of files may have, come back as they were."""

T = TypeVar("T")

_CELL = 2**31 - 1
"""Characters of a cell that Python's reader takes; 131 072 are its usual limit, and a list of names may be longer."""


def write_arrays(path: Path, **arrays: NDArray[Any]) -> None:
    """Write an `.npz` file as a whole."""
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file as a whole.

    Raises:
        UserError: there is a directory in its place.
    """
    if path.is_dir():
        raise UserError("run", path, "a directory, where a file is to be written", "remove it")
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")  # of file names that are not UTF-8


def write_table(path: Path, table: Table, schema: Schema) -> None:
    """Write ``table`` as CSV, its columns in the order of ``schema``.

    Args:
        path: the file to make or replace.
        table: columns of equal length; optional ones may be missing.
        schema: the columns that this file has, for example ``LAYERMEM_TABLE``.

    Raises:
        ValueError: a column is missing, unknown, not 1-D, of another length, or of another kind.
    """
    missing = [name for name, column in schema.items() if name not in table and not column.optional]
    unknown = [name for name in table if name not in schema]
    if missing or unknown:
        raise ValueError(f"{path.name}: missing columns {missing}, unknown columns {unknown}")
    present = {name: np.asarray(table[name]) for name in schema if name in table}
    shapes = {name: values.shape for name, values in present.items()}
    if len(set(shapes.values())) > 1 or any(len(shape) != 1 for shape in shapes.values()):
        raise ValueError(f"{path.name}: columns must be 1-D and of equal length, got {shapes}")
    if wrong := {n: str(v.dtype) for n, v in present.items() if len(v) and v.dtype.kind not in _KINDS[schema[n].kind]}:
        raise ValueError(
            f"{path.name}: {wrong} where { ({name: schema[name].kind.__name__ for name in wrong}) } belong"
        )
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8", errors=_BYTES) as file:
        words = chain.from_iterable(values.tolist() for values in present.values() if values.dtype.kind in "UO")
        quoted = any("\r" in str(word) for word in words)  # which the writer does not quote by itself
        quoting: Literal[0, 2] = csv.QUOTE_NONNUMERIC if quoted else csv.QUOTE_MINIMAL
        writer = csv.writer(file, lineterminator="\n", quoting=quoting)
        writer.writerow(present)
        writer.writerows(zip(*(values.tolist() for values in present.values()), strict=True))


def read_table(path: Path, schema: Schema | None = None) -> Table:
    """Read a CSV file back into typed columns.

    Args:
        path: a file that ``write_table`` or ``MetricsCSV`` made.
        schema: the columns that the file must have. A ``float`` column is ``float64`` (an empty cell is NaN); an
            ``int`` column is ``int64``, or ``float64`` where a cell of it is empty. Without a schema, as for the
            numbers that a training logged, a column is ``bool`` where every cell is True or False, ``int64`` where
            every cell is an integer, ``float64`` where every cell is a number or empty, and text otherwise.

    Raises:
        UserError: the file is missing, cut short, or has other columns.
    """
    with readable(path):
        content = read_limited(path, TABLE_BYTES)
        rows = csv_rows(content, errors=_BYTES)
    if not content.endswith(b"\n") or any(len(row) != len(rows[0]) for row in rows):
        raise UserError("run", None, f"{path} is cut short or was edited", _AGAIN)
    header, *body = rows
    if schema is not None and header != [n for n, column in schema.items() if n in header or not column.optional]:
        raise UserError("run", None, f"{path} has columns {header} where {list(schema)} belong", _AGAIN)
    cells = zip(*body, strict=True) if body else ((),) * len(header)
    by_name = dict(zip(header, cells, strict=True))
    if schema is None:
        return {name: _guessed(column) for name, column in by_name.items()}
    try:
        return {
            name: _repeated(column) if schema[name].long else _typed(schema[name].kind, column)
            for name, column in by_name.items()
        }
    except (KeyError, ValueError, OverflowError) as error:
        raise UserError("run", None, f"{path} was edited ({error})", _AGAIN) from error


def csv_rows(content: bytes, errors: str = "strict", delimiter: str = ",") -> list[list[str]]:
    """The rows of a CSV file, whose cells may be of any length and hold line ends.

    Args:
        content: of the file.
        errors: what becomes of bytes that are not UTF-8, as for `bytes.decode`.
        delimiter: between two cells.

    Raises:
        ValueError: it is not UTF-8 text, or has NUL characters.
        csv.Error: it is not CSV.
    """
    text = content.decode("utf-8-sig", errors)
    if "\0" in text:
        raise ValueError("it has NUL characters")
    csv.field_size_limit(_CELL)
    return list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))


_KINDS = {float: "fiu", int: "fiu", bool: "b", str: "UO"}
"""What NumPy calls the kinds of arrays that a column may be written from."""

_BOOL = {"True": True, "False": False}


def _typed(kind: type[float] | type[int] | type[bool] | type[str], cells: Sequence[str]) -> NDArray[Any]:
    if kind is str:
        return np.array(cells, dtype=np.str_)
    if kind is bool:
        return np.array([_BOOL[cell] for cell in cells], dtype=np.bool_)
    if kind is int:
        with suppress(ValueError):
            return np.array([int(cell) for cell in cells], dtype=np.int64)
    numbers = np.array([float(cell or "nan") for cell in cells], dtype=np.float64)
    whole = kind is int and bool(np.isfinite(numbers).all() and (numbers == np.round(numbers)).all())
    return numbers.astype(np.int64) if whole else numbers


def _repeated(cells: Sequence[str]) -> NDArray[Any]:
    """Words as Python's strings, one for all that are equal."""
    known: dict[str, str] = {}
    words = np.empty(len(cells), dtype=object)
    words[:] = [known.setdefault(cell, cell) for cell in cells]
    return words


def _guessed(cells: Sequence[str]) -> NDArray[Any]:
    if cells and set(cells) <= _BOOL.keys():
        return _typed(bool, cells)
    with suppress(ValueError):
        return np.array([int(cell) for cell in cells], dtype=np.int64)
    with suppress(ValueError):
        return _typed(float, cells)
    return np.array(cells, dtype=np.str_)


def table_of(columns: Iterable[str], rows: Sequence[Sequence[object]]) -> Table:
    """A table from its rows, which may be none."""
    names = list(columns)
    cells = zip(*rows, strict=True) if rows else ((),) * len(names)
    return {name: np.array(values) for name, values in zip(names, cells, strict=True)}


def write_json(path: Path, value: object) -> None:
    """Write ``value`` as indented JSON; NumPy values are unwrapped, NaN and infinities become null."""
    write_text(path, json.dumps(_plain(value), indent=2, allow_nan=False) + "\n")


def write_yaml(path: Path, value: object) -> None:
    """Write ``value`` as YAML; NumPy values are unwrapped, and tuples become lists."""
    write_text(path, yaml.safe_dump(_plain(value), sort_keys=False))


def read_json(path: Path, schema: type[T]) -> T:
    """Read a JSON file.

    Args:
        path: the file.
        schema: the type of its value, see `memlight.storage.documents`; keys that it does not know are kept.

    Raises:
        UserError: the file is missing, is not JSON, or a field of it is missing or of another type.
    """
    with readable(path):
        return read_json_file(path, schema)


def read_yaml_config(path: Path, schema: type[T]) -> T:
    """Read a saved configuration.

    Args:
        path: the file.
        schema: the type of its value; keys that it does not know are kept.

    Raises:
        UserError: the file is missing, is not a YAML mapping, or a field of it is missing or of another type.
    """
    with readable(path):
        return read_yaml_file(path, schema)


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Within this block, a file of a run that is missing or damaged is the user's to mend, as a `UserError`."""
    try:
        yield
    except WrongField as error:
        raise UserError("run", None, f"{path}: {error}", _AGAIN) from error
    except (OSError, ValueError, csv.Error) as error:
        raise UserError("run", None, f"{path} cannot be read ({error})", _AGAIN) from error


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value
