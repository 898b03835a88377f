"""The class of every image of an analysis: the data set's own, or those of a file."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from memlight.data.images import ImageDataModule
from memlight.data.splits import Ids
from memlight.errors import UserError

_NAMED = 5


@dataclass(frozen=True, eq=False)
class ClassLabels:
    """Classes by image.

    Attributes:
        names: of the classes; class c is ``names[c]``.
        by_id: ``int64 (N,)`` class of every image of the data set; -1 where it has none.
        file: the file that they are from; None for the data set's own.
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


def own_labels(data: ImageDataModule, split: str) -> ClassLabels:
    """The classes that came with the images, or those of the file that was given in their place.

    Args:
        data: every image of the data set, read.
        split: the one that is measured.

    Raises:
        UserError: they came with none.
    """
    if not data.classes:
        raise UserError("split", split, "these images have no classes", "give some with `labels=FILE.csv`")
    file = None if data.label_file is None else data.label_file.path
    return ClassLabels(data.classes, data.source.labels.numpy(), file)


def _few(what: str, values: list[int] | list[str]) -> str:
    shown = ", ".join(str(value) for value in values[:_NAMED])
    return f"{what} {shown}{', ...' if len(values) > _NAMED else ''}"
