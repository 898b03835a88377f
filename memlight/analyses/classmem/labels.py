"""The class of every image of an analysis: the data set's own, or those of a CSV file."""

import csv
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from memlight.data.sources import JoinedSource
from memlight.data.splits import Ids
from memlight.errors import UserError
from memlight.storage.opening import read_limited
from memlight.storage.tables import TABLE_BYTES, csv_rows

_NAMED = 5


@dataclass(frozen=True, eq=False)
class ClassLabels:
    """Classes by image.

    Attributes:
        names: of the classes; class c is ``names[c]``.
        by_id: ``int64 (N,)`` class of every image of the data set; -1 where it has none.
        file: the CSV file that they are from; None for the data set's own.
    """

    names: list[str]
    by_id: Ids
    file: Path | None = None

    def of(self, ids: Ids) -> Ids:
        """``int64 (B,)``, in the order asked for."""
        labels: Ids = self.by_id[ids]
        return labels

    def lacking(self, ids: Ids) -> str | None:
        """Why these images cannot be compared class by class; None where they can."""
        labels = self.of(ids)
        counts = np.bincount(labels[labels >= 0], minlength=len(self.names))
        if (labels < 0).any():
            return f"{(labels < 0).sum()} of {len(ids)} images have no class ({_few('id', ids[labels < 0].tolist())})"
        if len(self.names) < 2:
            return f"{len(self.names)} class is named; ClassMem compares at least two"
        if not counts.all():
            absent = [self.names[c] for c in np.flatnonzero(counts == 0)]
            return f"no image of {len(absent)} of {len(self.names)} classes ({_few('class', absent)})"
        return None

    def require(self, split: str, ids: Ids) -> None:
        """Refuse images that cannot be compared class by class.

        Raises:
            UserError: an image has no class, a class has no image, or there are fewer than two classes.
        """
        if (why := self.lacking(ids)) is None:
            return
        if self.file is not None:
            raise UserError("labels", self.file, f"{split} split: {why}", "complete the file or choose another `split`")
        way_out = "choose another `split` or give other classes with `labels=FILE.csv`"
        raise UserError("split", split, why, way_out)


def own_labels(source: JoinedSource, split: str) -> ClassLabels:
    """The classes that came with the images.

    Args:
        source: every image of the data set.
        split: the one that is measured.

    Raises:
        UserError: they came with none.
    """
    if not source.classes:
        raise UserError("split", split, "these images have no classes", "give some with `labels=FILE.csv`")
    return ClassLabels(source.classes, source.labels.numpy())


@dataclass(frozen=True)
class LabelFile:
    """A CSV file with a header, and in it a column ``label`` beside a column ``id`` or ``path``.

    Attributes:
        path: where it is.
        key: id or path.
        keys: which images.
        labels: their classes, as they are written.
    """

    path: Path
    key: str
    keys: list[str]
    labels: list[str]

    @classmethod
    def read(cls, path: Path) -> "LabelFile":
        """Read the file, without looking for its images.

        Raises:
            UserError: there is no such file, or it is none of this kind.
        """
        try:
            header, *rows = csv_rows(read_limited(path, TABLE_BYTES)) or [[]]
        except (OSError, ValueError, csv.Error) as error:
            raise UserError("labels", path, f"cannot be read ({error})") from error
        key = next((name for name in ("id", "path") if name in header), None)
        if key is None or "label" not in header:
            why = f"the first line must name the columns id,label (or path,label), not {header}"
            raise UserError("labels", path, why)
        cells = {name: header.index(name) for name in (key, "label")}
        rows = [row for row in rows if row]
        for number, row in enumerate(rows, start=2):
            if len(row) != len(header) or not row[cells[key]].strip() or not row[cells["label"]].strip():
                raise UserError("labels", path, f"row {number} has no {key} or no label: {','.join(row)!r}")
        keys, labels = ([row[cells[name]].strip() for row in rows] for name in (key, "label"))
        if "-1" in labels:
            why = f"label -1 of {key} {keys[labels.index('-1')]} is no class"
            raise UserError("labels", path, why, "leave such rows out")
        twice = next((name for name, times in Counter(keys).items() if times > 1), None)
        if twice is not None:
            raise UserError("labels", path, f"{key} {twice} is in it twice")
        return cls(path, key, keys, labels)

    def classes(self, source: JoinedSource) -> ClassLabels:
        """Its classes, in alphabetical order, or by number where all are whole numbers, with the images they belong to.

        Args:
            source: every image of the data set.

        Raises:
            UserError: it names an image that is not in the data set, or by a path that two images have.
        """
        names, numbers = _classes(self.labels)
        by_id = np.full(len(source), -1, dtype=np.int64)
        by_id[self._ids(source)] = numbers
        return ClassLabels(names, by_id, self.path)

    def _ids(self, source: JoinedSource) -> list[int]:
        by_id = "name them by id"
        if self.key == "id":
            known = {str(number): number for number in range(len(source))}
            example = f"ids go from 0 to {len(source) - 1}"
        else:
            if not source.names:
                raise UserError("labels", self.path, "these images are in no files of their own", by_id)
            known = {name: number for number, name in enumerate(source.names)}
            example = f"paths are written as {source.names[0]}"
            if len(known) < len(source):
                raise UserError("labels", self.path, "training and held-out images share paths", by_id)
        unknown = [key for key in self.keys if key not in known]
        if unknown:
            raise UserError("labels", self.path, f"no such image: {_few(self.key, unknown)}", example)
        return [known[key] for key in self.keys]


def _classes(labels: list[str]) -> tuple[list[str], list[int]]:
    """Names of the classes in order, and the class of each label."""
    if all(label.isdecimal() for label in labels):
        names = [str(value) for value in sorted({int(label) for label in labels})]
        labels = [str(int(label)) for label in labels]
    else:
        names = sorted(set(labels))
    numbers = {name: number for number, name in enumerate(names)}
    return names, [numbers[label] for label in labels]


def _few(what: str, values: list[int] | list[str]) -> str:
    shown = ", ".join(str(value) for value in values[:_NAMED])
    return f"{what} {shown}{', ...' if len(values) > _NAMED else ''}"
