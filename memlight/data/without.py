"""Images that a member's training leaves out although its split holds them."""

import csv
import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from memlight.data.splits import Ids
from memlight.errors import UserError

_NAMED = 5


@dataclass(frozen=True, eq=False)
class LeftOut:
    """Ids from a CSV file with a header and a column ``id``; other columns are not read.

    Attributes:
        path: the file.
        ids: ``int64 (K,)`` in the file's order.
        sha256: hash of the file's bytes.
    """

    path: Path
    ids: Ids
    sha256: str

    @classmethod
    def read(cls, path: Path) -> "LeftOut":
        """Read the file, without looking for its images.

        Raises:
            UserError: there is no such file, or it is none of this kind.
        """
        flag = f"--data.without {path}"
        try:
            content = path.read_bytes()
            header, *rows = list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""))) or [[]]
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise UserError(f"{flag}: cannot be read ({error}).") from error
        if "id" not in header:
            raise UserError(f"{flag}: the first line must name the column id, and may name others; it is {header}.")
        column = header.index("id")
        ids = []
        for number, row in enumerate(rows, start=2):
            if not row:
                continue
            cell = row[column].strip() if len(row) > column else ""
            if not cell.isdecimal():
                raise UserError(f"{flag}: row {number} has no id: {','.join(row)!r}.")
            ids.append(int(cell))
        if not ids:
            raise UserError(f"{flag}: names no image; leave the flag out to train on all of them.")
        if len(set(ids)) < len(ids):
            raise UserError(f"{flag}: id {next(id_ for id_ in ids if ids.count(id_) > 1)} is in it twice.")
        return cls(path, np.array(ids, dtype=np.int64), hashlib.sha256(content).hexdigest())

    def require_among(self, own: Ids, role: str) -> None:
        """Refuse images that the member would not be trained on alone anyway.

        Args:
            own: ``int64 (O,)`` ids of the member's own images, the shared ones aside.
            role: of the member.

        Raises:
            UserError: names the first of them.
        """
        others = self.ids[~np.isin(self.ids, own)].tolist()
        if others:
            shown = ", ".join(map(str, others[:_NAMED])) + ", ..." * (len(others) > _NAMED)
            raise UserError(
                f"--data.without {self.path}: {len(others)} of {len(self.ids)} ids are not among the {len(own)} images "
                f"of the {role} member alone (id {shown}); only those can be left out, and splits.json lists them."
            )

    @property
    def record(self) -> dict[str, Any]:
        """What an encoder's metadata say of it."""
        return {"file": self.path.name, "sha256": self.sha256, "count": len(self.ids)}
