"""Tables and JSON on disk: typed columns, exact floats, and never half a file.

A table is a dictionary of equally long 1-D arrays, stored as CSV with one header row. Floats are written with
``repr``, so reading a table back gives the very same numbers.
"""

import csv
import json
import math
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from memlight.columns import OPTIONAL_COLUMNS, TEXT_COLUMNS
from memlight.errors import UserError

Table = dict[str, NDArray[Any]]
"""Column name -> 1-D array; every column has the same length."""

_AGAIN = "run the command that makes it again"


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that takes its place, synced, when the block succeeds.

    A killed process leaves the old file or the new one, and an exception leaves the old one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield temporary
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Wait until a file's bytes, or a directory's names, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_directory(new: Path, old: Path) -> None:
    """Let ``new`` take the place of ``old``, which may not exist, in two renames."""
    retired = old.with_name(f".{old.name}.retired")
    shutil.rmtree(retired, ignore_errors=True)
    if old.exists():
        old.rename(retired)
    new.rename(old)
    sync(old.parent)
    shutil.rmtree(retired, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file as a whole."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_table(path: Path, table: Table, columns: Sequence[str]) -> None:
    """Write ``table`` as CSV, its columns in the order of ``columns``.

    Args:
        path: the file to make or replace.
        table: columns of equal length; those in ``OPTIONAL_COLUMNS`` may be missing.
        columns: the names this file has, for example ``LAYERMEM_TABLE``.

    Raises:
        ValueError: a column is missing, unknown, not 1-D, or of another length.
    """
    missing = [name for name in columns if name not in table and name not in OPTIONAL_COLUMNS]
    unknown = [name for name in table if name not in columns]
    if missing or unknown:
        raise ValueError(f"{path.name}: missing columns {missing}, unknown columns {unknown}")
    present = [name for name in columns if name in table]
    shapes = {name: np.shape(table[name]) for name in present}
    if len(set(shapes.values())) > 1 or any(len(shape) != 1 for shape in shapes.values()):
        raise ValueError(f"{path.name}: columns must be 1-D and of equal length, got {shapes}")
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(present)
        writer.writerows(zip(*(np.asarray(table[name]).tolist() for name in present), strict=True))


def read_table(path: Path, columns: Sequence[str] | None = None) -> Table:
    """Read a CSV file back into typed columns.

    A column is ``int64`` where every cell is an integer, ``float64`` where every cell is a number or empty
    (NaN), ``bool`` where every cell is True or False, and text otherwise and for ``TEXT_COLUMNS``.

    Args:
        path: a file that ``write_table`` or ``MetricsCSV`` made.
        columns: when given, the header that the file must have.

    Raises:
        UserError: the file is missing, cut short, or has other columns.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--run: {path} cannot be read ({error}); {_AGAIN}") from error
    rows = list(csv.reader(text.splitlines()))
    if not text.endswith("\n") or any(len(row) != len(rows[0]) for row in rows):
        raise UserError(f"--run: {path} is cut short or was edited; {_AGAIN}")
    header, *body = rows
    if columns is not None and header != [n for n in columns if n in header or n not in OPTIONAL_COLUMNS]:
        raise UserError(f"--run: {path} has columns {header} where {list(columns)} belong; {_AGAIN}")
    cells = zip(*body, strict=True) if body else ((),) * len(header)
    return {name: _typed(name, column) for name, column in zip(header, cells, strict=True)}


def _typed(name: str, cells: Sequence[str]) -> NDArray[Any]:
    if name in TEXT_COLUMNS:
        return np.array(cells, dtype=np.str_)
    if set(cells) <= {"True", "False"} and cells:
        return np.array([cell == "True" for cell in cells])
    try:
        return np.array([int(cell) for cell in cells], dtype=np.int64)
    except ValueError:
        pass
    try:
        return np.array([float(cell or "nan") for cell in cells], dtype=np.float64)
    except ValueError:
        return np.array(cells, dtype=np.str_)


def table_of(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    """A table from its rows, which may be none."""
    cells = zip(*rows, strict=True) if rows else ((),) * len(columns)
    return {name: np.array(values) for name, values in zip(columns, cells, strict=True)}


def write_json(path: Path, value: object) -> None:
    """Write ``value`` as indented JSON; NumPy values are unwrapped, NaN and infinities become null."""
    write_text(path, json.dumps(_plain(value), indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        UserError: the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"--run: {path} cannot be read ({error}); {_AGAIN}") from error


def read_yaml_config(path: Path) -> dict[str, Any]:
    """Read a saved configuration.

    Raises:
        UserError: the file is missing or is not a YAML mapping.
    """
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"--run: {path} cannot be read ({error}); {_AGAIN}") from error
    if not isinstance(config, dict):
        raise UserError(f"--run: {path} is not a configuration; {_AGAIN}")
    return config


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
