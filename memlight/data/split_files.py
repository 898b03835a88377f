"""Splits that others made: which image is in which group, by id or by path, in a table, a JSON file or a list each."""

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np

from memlight.data.files import few_words
from memlight.data.sources import JoinedSource
from memlight.data.splits import SPLITS, Ids
from memlight.errors import UserError
from memlight.random import ANALYSIS, permutation
from memlight.storage.arrays import DAMAGED, map_npy, read_npz
from memlight.storage.documents import parse_json
from memlight.storage.opening import read_limited
from memlight.storage.tables import TABLE_BYTES, csv_rows

Key = int | str
"""An id, or the path of an image."""

_OTHER_NAMES = {
    "candidates": "candidate",
    "independents": "independent",
    "both": "shared",
    "common": "shared",
    "test": "external",
    "held_out": "external",
    "heldout": "external",
    "unseen": "external",
}
_LEFT_OUT = ("", "none", "unused", "left_out")
ID_COLUMNS = ("id", "index", "idx", "image_id", "sample_id")
_PATH_COLUMNS = ("path", "file", "file_name", "filename", "image", "name")
_SPLIT_COLUMNS = ("split", "group", "subset")
_OF_NO_FILE = re.compile(r"(train|test)/(\d+)(?:\.\w+)?")
_FORMS = "a .csv with the columns id,split or path,split; a .json; or a list for each split (candidate=FILE ...)"
_BYTES = "surrogateescape"
_OTHER_CLASSES = 0.01
"""Share of images whose class may differ from the data set's: labels are corrected now and then."""
_CLASS_COLUMNS = ("label", "class", "target")


@dataclass(frozen=True, eq=False)
class SplitFile:
    """The groups of images that a file names, before its images are looked for.

    Attributes:
        places: the file, or ``split=FILE`` for each split, as they were given.
        keys: split -> ids or paths; only splits that are named.
        by: whether images are named by id or by path.
        classes: class of each image, where a table has them; by id or path as it is written there.
    """

    places: tuple[str, ...]
    keys: dict[str, list[Key]]
    by: Literal["id", "path"]
    classes: dict[str, str]

    @classmethod
    def read(cls, places: Sequence[str] | str) -> "SplitFile":
        """Read one file that names splits and images, or one list of images for each split.

        * ``.csv`` or ``.tsv``: a header with a column ``split`` beside a column ``id`` or ``path``. A column ``label``
          is compared with the classes of the images, as ids of other people may count them in another order; others
          are not read.
        * ``.json``: a list of ids or paths for each split (`splits.json` of a run is one), a list of objects with
          ``split`` and ``id`` or ``path`` (``.jsonl``: an object in each line), or the split of each id or path.
        * ``candidate=FILE independent=FILE shared=FILE external=FILE``: each ``.txt`` (a line for each image),
          ``.csv`` (a column ``id`` or ``path``), ``.json`` (a list) or ``.npy`` (whole numbers).
        * ``.npz``: an array of ids for each split.

        Args:
            places: the file, or ``split=FILE`` for each split.

        Raises:
            UserError: there is no such file, it is none of these, or it names an image twice.
        """
        given = (places,) if isinstance(places, str) else tuple(places)
        whole = given[0] if given else ""
        classes: dict[str, str] = {}
        if len(given) == 1 and not _is_list(whole):
            groups = _read_whole(Path(whole).expanduser(), classes)
        else:
            groups = _read_lists(given)
        keys, by = _one_kind(groups, whole)
        if not keys.get("candidate"):
            ways = ["name its split `candidate` in the file"]
            raise UserError("splits", whole, "names no candidate, an image that only one encoder was trained on", ways)
        return cls(given, keys, by, classes)

    @property
    def words(self) -> str:
        """The file or files, without their folders."""
        return ", ".join(PurePosixPath(place.rpartition("=")[2]).name for place in self.places)

    def ids(self, source: JoinedSource) -> dict[str, Ids]:
        """Ascending ids of every split that is named.

        Args:
            source: every image of the data set.

        Raises:
            UserError: an image is not there, is in two splits, or too many are of other classes than the file says.
        """
        every = [key for keys in self.keys.values() for key in keys]
        numbers = self._by_id(every, source) if self.by == "id" else self._by_path([str(key) for key in every], source)
        self._require_classes(every, numbers, source)
        split_of: dict[int, str] = {}
        found: dict[str, Ids] = {}
        following = iter(numbers)
        for split, keys in self.keys.items():
            own = list(islice(following, len(keys)))
            for id_ in own:
                if id_ in split_of:
                    raise self._twice(id_, split_of[id_], split, source)
                split_of[id_] = split
            found[split] = np.array(sorted(own), dtype=np.int64)
        return found

    @staticmethod
    def drawn(taken: Mapping[str, Ids], source: JoinedSource, count: int, seed: int) -> Ids:
        """Ascending ids of external images that a file does not name: test images at random, which are in no split.

        Args:
            taken: split -> ids that are named.
            source: every image of the data set.
            count: at most so many.
            seed: of the draw.
        """
        free = np.setdiff1d(np.arange(len(source.train), len(source)), np.concatenate([*taken.values()]))
        chosen: Ids = np.sort(free[permutation(seed, ANALYSIS, len(free)).numpy()[:count]])
        return chosen

    def _require_classes(self, keys: Sequence[Key], numbers: Sequence[int], source: JoinedSource) -> None:
        """Refuse ids that mean other images, where the file says of which class each one is."""
        said = [(n, self.classes.get(str(key), "")) for key, n in zip(keys, numbers, strict=True) if self.classes]
        labels = source.labels.tolist()
        known = [(labels[number], word) for number, word in said if word and labels[number] >= 0]
        other = sum(word not in (str(label), source.classes[label]) for label, word in known)
        if other > _OTHER_CLASSES * len(known):
            why = f"{other} of {len(known)} images are of another class than it says: its {self.by}s mean others"
            raise UserError("splits", self.words, why, ["number images as here", "leave the column out"])

    def _by_id(self, keys: Sequence[Key], source: JoinedSource) -> list[int]:
        numbers = [int(key) for key in keys]
        others = [number for number in numbers if number >= len(source)]
        if others:
            why = f"{len(others)} of {len(numbers)} ids are of no image here ({few_words(map(str, others))})"
            raise UserError("splits", self.words, why, f"ids are: {_numbering(source)}")
        return numbers

    def _by_path(self, paths: Sequence[str], source: JoinedSource) -> list[int]:
        if not source.names:
            return [self._of_no_file(path, source) for path in paths]
        found, missing = match_paths(paths, source.names)
        if missing:
            why = (
                f"{len(missing)} of {len(paths)} paths are of no image here, or of more than one ({few_words(missing)})"
            )
            raise UserError("splits", self.words, why, f"write them as {source.names[0]}")
        return found

    def _of_no_file(self, path: str, source: JoinedSource) -> int:
        match = _OF_NO_FILE.fullmatch(path)
        number = int(match[2]) if match else -1
        test = match is not None and match[1] == "test"
        if not 0 <= number < len(source.test if test else source.train):
            why = f"{path} is no image here: {source.name} is not in files of its own"
            ways = ["write train/NUMBER or test/NUMBER, counted from 0", f"name images by id: {_numbering(source)}"]
            raise UserError("splits", self.words, why, ways)
        return number + (len(source.train) if test else 0)

    def _twice(self, id_: int, first: str, second: str, source: JoinedSource) -> UserError:
        name = source.names[id_] if source.names else f"id {id_}"
        why = f"{name} is in {first} twice" if first == second else f"{name} is in {first} and in {second}"
        ways = ["an image belongs to one split"]
        if self.by == "id" and "external" in (first, second):
            ways = [f"ids of test images begin at {len(source.train)}: add it to those of the external images"]
        return UserError("splits", self.words, why, ways)


def _is_list(place: str) -> bool:
    name, equals, _ = place.partition("=")
    return bool(equals) and "/" not in name and not Path(place).exists()


def _read_whole(path: Path, classes: dict[str, str]) -> dict[str, list[Any]]:
    """A list for each split; the class of each image goes into ``classes``, where a table has it."""
    content = _bytes(path)
    match path.suffix.lower():
        case ".csv" | ".tsv":
            groups = _grouped(_column_pairs(path, content, classes=classes), path)
        case ".json":
            groups = _of_json(path, _json(path, content))
        case ".jsonl":
            groups = _of_json(path, [_json(path, line) for line in content.split(b"\n") if line.strip()])
        case ".npz":
            try:
                arrays = read_npz(path)
            except DAMAGED as error:
                raise UserError("splits", path, f"cannot be read ({error})") from error
            groups = _of_mapping({name: array.ravel().tolist() for name, array in arrays.items()}, path)
        case other:
            raise UserError("splits", path, f"files that end with {other or 'nothing'} are not read", f"give {_FORMS}")
    return groups


def _read_lists(places: Sequence[str]) -> dict[str, list[Any]]:
    groups: dict[str, list[Any]] = {}
    for place in places:
        name, equals, file = place.partition("=")
        if not equals:
            raise UserError("splits", place, "does not say of which split it is", f"give {_FORMS}")
        split = _split_of(name, Path(file))
        if split is None or split in groups:
            raise UserError("splits", place, f"{name} is given twice, or is no split", f"splits are {_all_splits()}")
        groups[split] = _list_of(Path(file).expanduser())
    return groups


def _list_of(path: Path) -> list[Any]:
    """Ids or paths, one after another."""
    match path.suffix.lower():
        case ".npy":
            try:
                array = np.asarray(map_npy(path))
            except DAMAGED as error:
                raise UserError("splits", path, f"cannot be read ({error})") from error
            return list(array.ravel().tolist())
        case ".json":
            value = _json(path, _bytes(path))
            if not isinstance(value, list):
                raise UserError("splits", path, "is not a list of ids or paths")
            return value
        case ".csv" | ".tsv":
            return [key for key, _ in _column_pairs(path, _bytes(path), split="candidate")]
        case _:
            lines = _bytes(path).decode("utf-8-sig", _BYTES).split("\n")
            return [line.strip() for line in lines if line.strip() and not line.startswith("# ")]


def _column_pairs(
    path: Path, content: bytes, split: str | None = None, classes: dict[str, str] | None = None
) -> list[tuple[str, str]]:
    """Key and split of each row; the same split for all where it is given; the class of each goes into ``classes``."""
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    try:
        header, *rows = csv_rows(content, _BYTES, delimiter) or [[]]
    except (ValueError, csv.Error) as error:
        raise UserError("splits", path, f"cannot be read ({error})") from error
    names = [name.strip().lower() for name in header]
    key = next((name for name in (*ID_COLUMNS, *_PATH_COLUMNS) if name in names), None)
    group = next((name for name in _SPLIT_COLUMNS if name in names), None)
    label = next((name for name in _CLASS_COLUMNS if name in names), None)
    if key is None or (group is None and split is None):
        columns = "id or path" if split is not None else "id,split or path,split"
        raise UserError("splits", path, f"the first line must name the columns {columns}; it is {header}")
    pairs = []
    for number, row in enumerate(rows, start=2):
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != len(header) or not row[names.index(key)].strip():
            raise UserError("splits", path, f"row {number} has no {key}, or other columns: {','.join(row)!r}")
        cell = row[names.index(key)].strip()
        pairs.append((cell, split or row[names.index(group or "")].strip()))
        if classes is not None and label is not None:
            classes[cell] = row[names.index(label)].strip()
    return pairs


def _of_json(path: Path, value: Any) -> dict[str, list[Any]]:
    if isinstance(value, list) and all(isinstance(item, dict) for item in value):
        pairs = []
        for number, item in enumerate(value, start=1):
            key = next((item[name] for name in (*ID_COLUMNS, *_PATH_COLUMNS) if name in item), None)
            group = next((item[name] for name in _SPLIT_COLUMNS if name in item), None)
            if key is None or not isinstance(group, str):
                raise UserError("splits", path, f"entry {number} has no id or path, or no split: {item}")
            pairs.append((key, group))
        return _grouped(pairs, path)
    if isinstance(value, dict):
        by_image = value and all(isinstance(item, str) for item in value.values())
        return _grouped(value.items(), path) if by_image else _of_mapping(value, path)
    raise UserError("splits", path, "holds neither a list for each split nor the split of each image", f"give {_FORMS}")


def _of_mapping(value: Mapping[str, Any], path: Path) -> dict[str, list[Any]]:
    """A list for each split; what is no list is not a split (such as the seed in a splits.json of a run)."""
    groups: dict[str, list[Any]] = {}
    for name, items in value.items():
        if not isinstance(items, list):
            continue
        split = _split_of(name, path)
        if split is not None:
            groups.setdefault(split, []).extend(items)
    return groups


def _grouped(pairs: Iterable[tuple[Any, str]], path: Path) -> dict[str, list[Any]]:
    groups: dict[str, list[Any]] = {}
    known: dict[str, str | None] = {}
    for key, name in pairs:
        if name not in known:
            known[name] = _split_of(name, path)
        if (split := known[name]) is not None:
            groups.setdefault(split, []).append(key)
    return groups


def _split_of(name: str, path: Path) -> str | None:
    """The split of ours that a name means; None for images that belong to none."""
    plain = name.strip().lower().replace("-", "_").replace(" ", "_")
    if plain in _LEFT_OUT:
        return None
    split = _OTHER_NAMES.get(plain, plain)
    if split not in SPLITS:
        ways = f"splits are {_all_splits()}; none is for images that belong to none of them"
        raise UserError("splits", path, f"{name!r} is no split", ways)
    return split


def _one_kind(groups: Mapping[str, list[Any]], place: str) -> tuple[dict[str, list[Key]], Literal["id", "path"]]:
    """All keys as ids, or else all as paths."""
    every = [key for keys in groups.values() for key in keys]
    if all(_is_id(key) for key in every):
        keys: dict[str, list[Key]] = {split: [int(key) for key in groups[split]] for split in SPLITS if split in groups}
        return keys, "id"
    wrong = next((key for key in every if not isinstance(key, str) or _is_id(key)), None)
    if wrong is not None:
        kinds = "some images are named by id and others by path" if _is_id(wrong) else "is neither an id nor a path"
        raise UserError("splits", place, f"{wrong!r}: {kinds}", "name all by id (0, 1, ...) or all by path")
    return {split: list(groups[split]) for split in SPLITS if split in groups}, "path"


def _is_id(key: object) -> bool:
    if isinstance(key, str):
        return key.isascii() and key.isdigit() and len(key) < 19
    return isinstance(key, int) and not isinstance(key, bool) and 0 <= key < 2**63


def match_paths(paths: Sequence[str], names: Sequence[str]) -> tuple[list[int], list[str]]:
    """Number of the image of each path, and the paths without one.

    Whoever wrote the paths may have stood in another folder: where they are not the names themselves, as many folders
    before the file name are compared as are needed to tell all images apart.
    """
    parts = [_parts(name) for name in names]
    wanted = [_parts(path) for path in paths]
    deepest = max((len(each) for each in (*parts, *wanted)), default=1)
    best: tuple[list[int], list[str]] = [], list(paths)
    for depth in range(deepest, 0, -1):
        numbers: dict[tuple[str, ...], int] = {}
        for number, each in enumerate(parts):
            tail = each[-depth:]
            numbers[tail] = -1 if tail in numbers else number
        found = [numbers.get(each[-depth:], -1) for each in wanted]
        missing = [path for path, number in zip(paths, found, strict=True) if number < 0]
        if not missing:
            return found, []
        if len(missing) < len(best[1]):
            best = found, missing
    return best


def _parts(path: str) -> tuple[str, ...]:
    return tuple(part for part in path.replace("\\", "/").split("/") if part not in ("", "."))


def _json(path: Path, content: bytes) -> Any:
    try:
        return parse_json(content, object)
    except ValueError as error:
        raise UserError("splits", path, f"is not JSON ({error})") from error


def _bytes(path: Path) -> bytes:
    try:
        return read_limited(path, TABLE_BYTES)
    except (OSError, ValueError) as error:
        raise UserError("splits", path, f"cannot be read ({error})") from error


def _numbering(source: JoinedSource) -> str:
    train, test = len(source.train), len(source.test)
    of_test = f", test images {train} to {train + test - 1}" if test else ""
    return f"training images 0 to {train - 1}{of_test}"


def _all_splits() -> str:
    return ", ".join(SPLITS)
