"""Scores of images that somebody else computed: a CSV file of numbers by id."""

import csv
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from memlight.analyses.atypical.columns import WORDS
from memlight.data.splits import Ids, PairSplit
from memlight.errors import UserError
from memlight.storage.opening import read_limited
from memlight.storage.tables import TABLE_BYTES, csv_rows


@dataclass(frozen=True, eq=False)
class ScoreFile:
    """A CSV file with a header, a column ``id``, and columns of numbers.

    Attributes:
        path: where it is.
        names: of the columns of numbers.
        ids: ``(K,)`` ascending.
        values: ``(K, len(names))``; NaN where a cell is empty.
    """

    path: Path
    names: list[str]
    ids: Ids
    values: NDArray[np.float64]

    @classmethod
    def read(cls, path: Path) -> "ScoreFile":
        """Read the file, without looking for its images.

        Raises:
            UserError: there is no such file, or it is none of this kind.
        """
        try:
            header, *rows = csv_rows(read_limited(path, TABLE_BYTES)) or [[]]
        except (OSError, ValueError, csv.Error) as error:
            raise UserError("scores", path, f"cannot be read ({error})") from error
        names = [name for name in header if name != "id"]
        if len(header) != len(names) + 1 or not names or len(set(names)) < len(names):
            why = f"the first line must name the column id and others, each once; it is {','.join(header)!r}"
            raise UserError("scores", path, why)
        if taken := [name for name in names if not name.strip() or name in WORDS]:
            raise UserError("scores", path, f"a column cannot be called {taken[0]!r}", "choose another name")
        place = header.index("id")
        ids, values = [], []
        for number, row in enumerate(rows, start=2):
            if not row:
                continue
            try:
                id_, cells = row[place].strip(), [cell.strip() for at, cell in enumerate(row) if at != place]
                if len(row) != len(header) or not id_.isdecimal():
                    raise ValueError("no id")
                values.append([float(cell or "nan") for cell in cells])
                ids.append(int(id_))
            except (IndexError, ValueError) as error:
                raise UserError("scores", path, f"row {number} is no id with numbers: {','.join(row)!r}") from error
        if twice := [id_ for id_, times in Counter(ids).items() if times > 1]:
            raise UserError("scores", path, f"id {twice[0]} is in it twice")
        if not ids or max(ids) >= 1 << 62:
            raise UserError("scores", path, "names no image" if not ids else f"no image has the id {max(ids)}")
        order = np.argsort(ids)
        return cls(path, names, np.array(ids, dtype=np.int64)[order], np.array(values)[order])

    def of(self, ids: Ids) -> NDArray[np.float64]:
        """``(N, len(names))``, in the order asked for; NaN where the file has no number."""
        rows = np.clip(np.searchsorted(self.ids, ids), 0, len(self.ids) - 1)
        found = (self.ids[rows] == ids)[:, None] & np.isfinite(self.values[rows])
        return np.where(found, self.values[rows], np.nan)

    def require(self, split: PairSplit) -> None:
        """Refuse a file that lacks images of a member's own.

        Raises:
            UserError: says how many, and names the first.
        """
        for name in ("candidate", "independent"):
            ids = split.ids(name)
            lacking = ids[~np.isfinite(self.of(ids)).all(1)]
            if len(lacking):
                why = f"no number for {len(lacking)} of {len(ids)} {name} images (the first is id {lacking[0]})"
                raise UserError("scores", self.path, why, "complete the file, with ids as in splits.json")
