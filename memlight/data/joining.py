"""Scores of others matched to the images of a data set by id, by path or by their order, labels compared."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from memlight.data.score_files import ARGUMENT, Floats, ScoreFile
from memlight.data.sources import JoinedSource
from memlight.data.splits import Ids
from memlight.errors import UserError
from memlight.storage.image_names import ImageNames

FEWEST = 10
"""Images of a split that must have a score."""

NOISE = 0.01
"""Share of labels that may differ though the images are the same: some labels were corrected since."""

_PER_CLASS = 10
"""Images of a class, on average, from which it is tried whether classes are only numbered otherwise."""


@dataclass(frozen=True, eq=False)
class JoinedScores:
    """Scores of others by image.

    Attributes:
        file: the name of the file that they are from.
        names: of the scores.
        values: ``(N, S)`` of every image of the data set; NaN where there is none.
        words: how they were matched, in a sentence.
    """

    file: str
    names: list[str]
    values: Floats
    words: str

    def of(self, ids: Ids | Sequence[int]) -> Floats:
        """``(B, S)``, in the order asked for."""
        values: Floats = self.values[np.asarray(ids, dtype=np.int64)]
        return values

    def require(self, split: str, ids: Ids) -> None:
        """Refuse scores of too few images of a split.

        Raises:
            UserError: says how many there are.
        """
        for name, values in zip(self.names, self.of(ids).T, strict=True):
            count = int(np.isfinite(values).sum())
            if count < FEWEST:
                why = f"{count} of {len(ids)} {split} images have a number in {name}, and {FEWEST} are needed"
                raise UserError(ARGUMENT, self.file, f"{why} ({self.words})")

    def captions(self, ids: Ids | Sequence[int]) -> list[str]:
        """The first score of each image as it stands under its picture; empty for those without."""
        name = self.names[0] if len(self.names[0]) <= 6 else "joined"
        return [f"{name} {value:.3g}" if np.isfinite(value) else "" for value in self.of(ids)[:, 0].tolist()]

    def shades(self, ids: Ids | Sequence[int], among: Ids) -> Floats:
        """Ranks of the first score among some images, from 0 to 1; NaN for those without.

        Args:
            ids: ``(B,)`` which images.
            among: the images that they are ranked among.
        """
        known = np.sort(self.of(among)[:, 0])
        known = known[np.isfinite(known)]
        values = self.of(ids)[:, 0]
        ranks = np.searchsorted(known, values) / max(1, len(known) - 1)
        return np.where(np.isfinite(values), np.clip(ranks, 0, 1), np.nan)


def join_scores(file: ScoreFile, source: JoinedSource, names: ImageNames) -> JoinedScores:
    """Match the scores of a file to images, and compare labels where both have some.

    Args:
        file: the scores.
        source: every image of the data set, numbered by id.
        names: what they are called.

    Raises:
        UserError: images cannot be told from what the file says, there are others than it speaks of, an image has two
            different scores, or the labels say that the images are in another order.
    """
    by_path = file.paths is not None and (names.are_files or file.ids is None)
    ids, words = _ids(file, source, names, by_path)
    there = ids >= 0
    words += _compare_labels(file, source, ids, by_path)
    scores = _by_image(file, ids[there], {name: values[there] for name, values in file.scores.items()})
    values = np.full((len(source), len(scores)), np.nan)
    for column, (_, (known, of_score)) in enumerate(scores.items()):
        values[known, column] = of_score
    return JoinedScores(file.path.name, list(scores), values, words)


def _ids(file: ScoreFile, source: JoinedSource, names: ImageNames, by_path: bool) -> tuple[Ids, str]:
    """The id of every row, -1 for images that are not of this data set, and how they were found."""
    if by_path and file.paths is not None:
        ids = _ids_of_paths(file, file.paths, names)
        return ids, f"{int((ids >= 0).sum())} of {len(ids)} rows matched by path"
    if file.ids is not None:
        most = max(file.ids)
        if most >= len(source):
            why = f"has a score of id {most}, and ids go from 0 to {len(source) - 1}"
            raise UserError(ARGUMENT, file.path, why, "number images as images.csv does")
        return np.array(file.ids, dtype=np.int64), f"{len(file)} rows matched by id"
    for count, which in ((len(source.train), "training images"), (len(source), "training and test images")):
        if len(file) == count:
            return np.arange(count), f"{count} numbers taken for the {which} in their order"
    why = (
        f"has {len(file)} numbers and does not say of which images; the data set has {len(source.train)} training and "
        f"{len(source.test)} test images"
    )
    raise UserError(ARGUMENT, file.path, why, "write them as a CSV file with the columns id or path, and the score")


def _ids_of_paths(file: ScoreFile, paths: Sequence[str], names: ImageNames) -> Ids:
    """By the whole path, or else by as much of it as both have, from the file's name on.

    Raises:
        UserError: no path fits, or one fits several images.
    """
    exact: dict[str, int] = {}
    by_file: dict[str, list[int]] = {}
    for id_, path in enumerate(names.paths):
        exact[path] = id_ if path not in exact else -1
        by_file.setdefault(path.rpartition("/")[2], []).append(id_)
    ids = np.full(len(paths), -1, dtype=np.int64)
    for row, written in enumerate(paths):
        path = written.strip().replace("\\", "/").removeprefix("./")
        found = exact.get(path)
        if found is None or found < 0:
            fitting = [id_ for id_ in by_file.get(path.rpartition("/")[2], ()) if _fits(path, names.paths[id_])]
            if len(fitting) > 1:
                ways = ["write more of the paths, as images.csv has them", "name the images by id"]
                raise UserError(ARGUMENT, file.path, f"{written!r} fits {len(fitting)} images", ways)
            found = fitting[0] if fitting else -1
        ids[row] = found
    if not (ids >= 0).any():
        why = f"none of its {len(paths)} paths is of an image here (the first is {paths[0]!r})"
        raise UserError(ARGUMENT, file.path, why, f"paths are written as {names.paths[0]!r}")
    return ids


def _fits(path: str, other: str) -> bool:
    """Whether one of two paths is the end of the other."""
    longer, shorter = sorted((path.split("/"), other.split("/")), key=len, reverse=True)
    return longer[len(longer) - len(shorter) :] == shorter


def _by_image(file: ScoreFile, ids: Ids, scores: dict[str, Floats]) -> dict[str, tuple[Ids, Floats]]:
    """Each score by image. What differs between rows of one image, as the influence of a pair does, is no score of it.

    Raises:
        UserError: an image is there twice, and no score says the same of it.
    """
    known, first, which = np.unique(ids, return_index=True, return_inverse=True)
    if len(known) == len(ids):
        return {name: (ids, values) for name, values in scores.items()}
    kept = {
        name: (known, values[first])
        for name, values in scores.items()
        if np.array_equal(values, values[first][which], equal_nan=True)
    }
    if not kept:
        twice = int(known[np.bincount(which).argmax()])
        raise UserError(ARGUMENT, file.path, f"id {twice} is in it more than once, with different scores")
    return kept


def _compare_labels(file: ScoreFile, source: JoinedSource, ids: Ids, by_path: bool) -> str:
    """How many labels differ, in words that follow how rows were matched.

    Raises:
        UserError: too many do for the same images in the same order.
    """
    if file.labels is None:
        return ""
    ours = source.labels.numpy()[np.where(ids >= 0, ids, 0)]
    both = (ids >= 0) & (ours >= 0)
    if not both.any():
        return "; labels were not compared, as the images have none"
    theirs = np.array(file.labels)[both]
    ours = ours[both]
    differ = int((_as_classes(theirs, source.classes) != ours).sum())
    if differ <= NOISE * len(ours):
        return f"; {differ} of {len(ours)} labels differ"
    if _differ_otherwise_numbered(theirs, ours) <= NOISE * len(ours):
        return "; labels agree, but classes are numbered otherwise"
    found = f"{differ} of {len(ours)} labels differ from those of the data set"
    if by_path:
        why = f"{found}, so its paths are of other images"
        raise UserError(ARGUMENT, file.path, why, "leave the labels out of it if the images are these")
    why = f"{found}, so its images are in another order"
    raise UserError(ARGUMENT, file.path, why, "write it as a CSV file with the columns path and score, without labels")


def _as_classes(labels: NDArray[np.str_], classes: Sequence[str]) -> Ids:
    """Words that name classes, or else whole numbers, as classes; -2 for what is neither."""
    numbers = {name: number for number, name in enumerate(classes)}
    if not set(labels.tolist()) <= numbers.keys():
        numbers = {text: int(float(text)) for text in set(labels.tolist()) if _is_whole(text)}
    return np.array([numbers.get(text, -2) for text in labels.tolist()], dtype=np.int64)


def _is_whole(text: str) -> bool:
    digits = text.strip().removesuffix(".0")
    return digits.isdecimal() and len(digits) < 10


def _differ_otherwise_numbered(theirs: NDArray[np.str_], ours: Ids) -> int:
    """How many labels differ where each class has the number that fits best; all of them for few images of a class."""
    names, rows = np.unique(theirs, return_inverse=True)
    classes, columns = np.unique(ours, return_inverse=True)
    if len(names) != len(classes) or len(ours) < _PER_CLASS * len(classes):
        return len(ours)
    together = np.zeros((len(names), len(classes)), dtype=np.int64)
    np.add.at(together, (rows, columns), 1)
    best = linear_sum_assignment(-together)
    return int(len(ours) - together[best].sum())
