"""Scores of images that others computed, as they publish them: CSV, npz, npy and JSON files.

Known layouts: Feldman and Zhang 2020 (``tr_mem`` with ``tr_labels``, and ``tr_filenames`` for ImageNet; ``mem`` with
``tr_idx`` for their pairs of high influence), C-scores (Jiang et al. 2021: ``scores`` with ``labels``, and
``filenames`` for ImageNet; one ``.npy`` for MNIST), the cumulative sample loss (one ``.npy``, or JSON by index), and
any table of one's own. No code in a file is run.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memlight.errors import UserError
from memlight.storage.arrays import DAMAGED, map_npy, npz_contents, read_npz, read_npz_words
from memlight.storage.documents import read_json_file
from memlight.storage.opening import read_limited
from memlight.storage.tables import TABLE_BYTES, csv_rows

IDS = ("id", "ids", "idx", "index", "indices", "tr_idx")
PATHS = ("path", "paths", "filename", "filenames", "file_name", "file_names", "tr_filenames")
LABELS = ("label", "labels", "target", "targets", "tr_labels")
"""Names, in any case, of the columns or arrays that say which images, and of their classes."""

MOST = 8
"""Scores that one file may have."""

LONGEST = 60
"""Letters in the name of a score, which stands in titles and tables."""

ARGUMENT = "join"

Floats = NDArray[np.float64]
Columns = Mapping[str, Sequence[Any] | NDArray[Any]]


@dataclass(frozen=True, eq=False)
class ScoreFile:
    """What a file says of K images.

    Attributes:
        path: where it is.
        ids: which images, by id; None where it does not say so.
        paths: which images, by path; None where it does not say so. With neither, the k-th row is the k-th image.
        labels: their classes, numbers or words; None where it has none.
        scores: name of each score -> ``(K,)``, NaN where there is none.
    """

    path: Path
    ids: list[int] | None
    paths: list[str] | None
    labels: list[str] | None
    scores: dict[str, Floats]

    @classmethod
    def read(cls, path: Path) -> "ScoreFile":
        """Read the file, without looking for its images.

        Raises:
            UserError: there is no such file, or it has no scores that could be matched to images.
        """
        readers = {".csv": _csv, ".npz": _npz, ".npy": _npy, ".json": _json}
        suffix = path.suffix.lower()
        if suffix not in readers:
            raise UserError(ARGUMENT, path, f"its name ends in none of {', '.join(readers)}")
        try:
            columns = readers[suffix](path)
        except (*DAMAGED, csv.Error) as error:
            raise UserError(ARGUMENT, path, f"cannot be read ({error})") from error
        ids, paths, labels = (_found(columns, names) for names in (IDS, PATHS, LABELS))
        if suffix == ".csv" and ids is None and paths is None:
            why = f"the first line must name a column id or path, and a score; it is {','.join(columns)!r}"
            raise UserError(ARGUMENT, path, why)
        key = next((name for name in (paths, ids, labels) if name is not None), None)
        rows = len(columns[key]) if key is not None else _only_length(path, columns)
        scores = _scores(path, {n: c for n, c in columns.items() if n not in (ids, paths, labels) and len(c) == rows})
        return cls(
            path,
            None if ids is None else [_whole(path, number, cell) for number, cell in enumerate(columns[ids], 1)],
            None if paths is None else [str(cell) for cell in columns[paths]],
            None if labels is None or len(columns[labels]) != rows else [str(cell) for cell in columns[labels]],
            scores,
        )

    def __len__(self) -> int:
        """K."""
        return len(next(iter(self.scores.values())))


def _csv(path: Path) -> Columns:
    header, *rows = csv_rows(read_limited(path, TABLE_BYTES), errors="surrogateescape") or [[]]
    header = [name.strip() for name in header]
    if len(set(header)) < len(header):
        raise ValueError(f"its first line names a column twice: {','.join(header)!r}")
    rows = [row for row in rows if row]
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise ValueError(f"row {number} has {len(row)} cells where the first has {len(header)}")
    return {name: [row[place] for row in rows] for place, name in enumerate(header)}


def _npz(path: Path) -> Columns:
    found = npz_contents(path)
    lists = {name: array for name, array in found.items() if len(array.shape) == 1 and not name.startswith("tt_")}
    numbers = [name for name, array in lists.items() if array.kind in "iuf"]
    words = [name for name, array in lists.items() if name.lower() in (*PATHS, *LABELS) and array.kind in "SUO"]
    if not numbers:
        raise ValueError(f"it has no list of numbers, only {', '.join(found) or 'nothing'}")
    read: dict[str, Any] = {**read_npz(path, numbers), **{name: read_npz_words(path, name) for name in words}}
    return {name: read[name] for name in lists if name in read}


def _npy(path: Path) -> Columns:
    array = map_npy(path)
    if array.ndim != 1 or array.dtype.kind not in "iuf":
        raise ValueError(f"one number for each image is needed, and it has an array of shape {array.shape}")
    return {path.stem: array}


def _json(path: Path) -> Columns:
    """A list of numbers, numbers by id or path, or a list for each name."""
    value: Any = read_json_file(path, Any)
    if isinstance(value, list):
        return {path.stem: value}
    if not isinstance(value, dict) or not value:
        raise ValueError("a list of numbers, or numbers by id or path, are needed")
    if all(isinstance(cells, list) for cells in value.values()):
        return value
    key = "id" if all(name.isdecimal() for name in value) else "path"
    return {key: list(value), path.stem: list(value.values())}


def _found(columns: Columns, names: Sequence[str]) -> str | None:
    """The first of these names that there is, in any case."""
    by_name = {name.lower(): name for name in reversed(list(columns))}
    return next((by_name[name] for name in names if name in by_name), None)


def _only_length(path: Path, columns: Columns) -> int:
    """How many rows there are where no column says which images they are of."""
    lengths = {name: len(cells) for name, cells in columns.items()}
    if len(set(lengths.values())) != 1:
        listed = ", ".join(f"{name} ({length})" for name, length in lengths.items())
        why = f"its lists have several lengths ({listed}), and none says which images they are of"
        raise UserError(ARGUMENT, path, why, "add a list id, path or labels")
    return next(iter(lengths.values()))


def _scores(path: Path, columns: Columns) -> dict[str, Floats]:
    """The columns of numbers; those of words are left out.

    Raises:
        UserError: there is none, there are too many, or a cell among numbers is none.
    """
    scores = {}
    for name, cells in columns.items():
        if isinstance(cells, np.ndarray):
            scores[name] = cells.astype(np.float64)
        elif (numbers := _numbers(path, name, cells)) is not None:
            scores[name] = numbers
    if not scores:
        others = f" beside {', '.join(columns)}" if columns else ""
        raise UserError(ARGUMENT, path, f"has no column of numbers{others}, so it has no score")
    if len(scores) > MOST:
        raise UserError(ARGUMENT, path, f"has {len(scores)} columns of numbers", f"leave {MOST} or fewer in it")
    if unfit := [name for name in scores if not name.strip() or not name.isprintable() or len(name) > LONGEST]:
        why = f"a score is called {unfit[0][:LONGEST]!r}; its name must have 1 to {LONGEST} letters in one line"
        raise UserError(ARGUMENT, path, why)
    if not len(next(iter(scores.values()))):
        raise UserError(ARGUMENT, path, "names no image")
    return {name: np.where(np.isfinite(values), values, np.nan) for name, values in scores.items()}


def _numbers(path: Path, name: str, cells: Sequence[Any]) -> Floats | None:
    """The cells of a column as numbers; None where the first that is not empty is a word."""
    values = np.full(len(cells), np.nan)
    begun = False
    for row, cell in enumerate(cells):
        if cell is None or (isinstance(cell, str) and not cell.strip()):
            continue
        try:
            values[row] = float(cell)
        except (TypeError, ValueError) as error:
            if not begun:
                return None
            why = f"{str(cell)[:40]!r} among the numbers of {name} (place {row + 1}) is none"
            raise UserError(ARGUMENT, path, why) from error
        begun = True
    return values


def _whole(path: Path, number: int, cell: Any) -> int:
    """An id.

    Raises:
        UserError: it is none.
    """
    text = str(cell).strip()
    if not text.isdecimal() or len(text) > 18:
        raise UserError(ARGUMENT, path, f"{text[:40]!r} (place {number}) is no id: a whole number from 0")
    return int(text)
