"""Names of images by id: from a data set, or from ``images.csv`` of a run. No torch."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from memlight.errors import UserError
from memlight.storage.schema import Column, Schema, columns
from memlight.storage.tables import Table, read_table

IMAGES: Schema = {
    **columns(int, "id"),
    "path": Column(str, long=True),
    **columns(int, "label"),
    **columns(str, "split"),
    "sha256": Column(str, long=True),
}
"""Columns of ``images.csv``: every image of the data set, in the order of the ids.

``split`` is empty for an image that was dealt into none. ``sha256`` is of the pixels as they are held, ``uint8
(C, H, W)`` at the size that the run decodes to; empty where images are not in memory but decoded when they are asked
for, since hashing would read them all.
"""

LETTERS = 12
"""Of a name under a picture: as many as are about as wide as the picture."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A cell that begins so is computed by spreadsheets; a path that does is written with ``./`` before it."""


@dataclass(frozen=True, eq=False)
class ImageNames:
    """What every image of a data set is called.

    Attributes:
        paths: by id. Of files, as the listing of the folder or archive names them, ``/`` between directories. Images
            that are in no files of their own, as those of a named data set, are ``train/17`` and ``test/3``: their
            place in its training and its test half, as torchvision orders them, counted from 0.
        are_files: whether the paths are of files.
    """

    paths: Sequence[str]
    are_files: bool

    @classmethod
    def read(cls, path: Path) -> "ImageNames | None":
        """The names in ``images.csv`` of a run; None where there is no such file, as in a run of an older release.

        Raises:
            UserError: it was edited or is damaged.
        """
        if not path.is_file():
            return None
        table = read_table(path, IMAGES)
        if not np.array_equal(table["id"], np.arange(len(table["id"]))):
            why = f"{path} was edited: its ids do not count from 0"
            raise UserError("run", None, why, "delete it, and the next analysis makes it again")
        paths = [
            name[2:] if name.startswith("./") and name[2:].startswith(_FORMULA) else name for name in table["path"]
        ]
        return cls(paths, are_files=not paths or paths[0] not in ("train/0", "test/0"))

    @property
    def under_pictures(self) -> str:
        """What a figure's caption says of the first lines under its pictures."""
        return "name and id" if self.are_files else "id"

    def path(self, ids: ArrayLike) -> NDArray[np.object_]:
        """The cells of a column ``path``, in the order asked for.

        A path that a spreadsheet would compute begins with ``./``, which names the same file.

        Args:
            ids: ``(N,)`` ids of the data set.
        """
        cells = np.empty(np.shape(ids), dtype=object)
        cells[...] = [f"./{name}" if name.startswith(_FORMULA) else name for name in self._of(ids)]
        return cells

    def short(self, ids: ArrayLike, letters: int = LETTERS) -> list[str]:
        """Names of the files without their directories, shortened in the middle; empty for images in no files.

        Args:
            ids: ``(N,)`` ids of the data set.
            letters: of the longest.
        """
        names = (name.rpartition("/")[2] for name in self._of(ids)) if self.are_files else ("" for _ in self._of(ids))
        return [shortened(printable(name), letters) for name in names]

    def captions(self, ids: ArrayLike, *lines: Iterable[str]) -> list[str]:
        """What stands under pictures: the short name, where there is one, and below it one of each of these lines.

        Args:
            ids: ``(N,)`` ids of the data set.
            lines: N texts each; an empty one takes no line.
        """
        return ["\n".join(filter(None, texts)) for texts in zip(self.short(ids), *lines, strict=True)]

    def _of(self, ids: ArrayLike) -> list[str]:
        return [self.paths[id_] for id_ in np.asarray(ids, dtype=np.int64).tolist()]


def with_paths(table: Table, schema: Schema, names: ImageNames) -> Table:
    """A table with those of its columns that name images (`memlight.storage.schema.path_of`)."""
    paths = {
        name: names.path(table[column.names])
        for name, column in schema.items()
        if column.names in table and name not in table
    }
    return {**table, **paths}


def shortened(name: str, letters: int) -> str:
    """At most so many letters: of a longer name its beginning and its end, which is where names differ."""
    if len(name) <= letters:
        return name
    end = letters // 2
    return f"{name[: letters - 1 - end]}\N{HORIZONTAL ELLIPSIS}{name[-end:]}"


def printable(name: str) -> str:
    """A name as text: what has no shape of its own (bytes that are not UTF-8, line ends, turned directions) escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)
