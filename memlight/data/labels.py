"""Classes that files tell: those that data sets bring along beside their images, and those of a file of one's own.

StyleGAN and EDM2 write ``dataset.json``, Hugging Face's image folders ``metadata.csv`` or ``metadata.jsonl``,
Tiny-ImageNet ``val_annotations.txt``, and WebDataset a ``.cls`` for each image.
"""

import csv
import json
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from memlight.data.files import Files, few_words, is_hidden, is_image
from memlight.data.sources import JoinedSource
from memlight.data.split_files import ID_COLUMNS, match_paths
from memlight.data.splits import Ids
from memlight.errors import UserError
from memlight.storage.documents import parse_json
from memlight.storage.opening import read_limited
from memlight.storage.tables import TABLE_BYTES, csv_rows

_PATH_COLUMNS = ("path", "file_name", "filename", "file", "image", "name")
_LABEL_COLUMNS = ("label", "labels", "class", "class_name", "category", "target")
_FORMS = "a .csv with the columns id,label or path,label; a .json; or a .jsonl"
_BYTES = "surrogateescape"
_MOST_OF_CLS = 200

Pair = tuple[str, str | None]
"""The path of an image as a file writes it, and its class; None where it has none."""


def labels_beside(files: Files, names: Sequence[str]) -> tuple[dict[str, str | None], list[str]]:
    """The classes that files beside images tell of them.

    A file tells those of all images in its folder and below; one that it does not name has no class. Of several files
    the deepest counts. A ``metadata`` file without a column of labels tells nothing.

    Args:
        files: where images and files are.
        names: names of all files.

    Returns:
        The class of every image of which a file tells one, None for an image that the file does not name; and a line
        for each kind of file.

    Raises:
        UserError: such a file is damaged.
    """
    found: dict[str, str | None] = {}
    lines: list[str] = []
    images = [name for name in names if is_image(name)]
    written = [name for name in names if _base(name) in _READERS and not is_hidden(name)]
    for name in sorted(written, key=lambda name: name.count("/")):
        pairs, why_none = _READERS[_base(name)](files, name)
        if why_none:
            lines.append(f"labels: none from {name} ({why_none})")
        if pairs is None:
            continue
        folder = name.removesuffix(_base(name))
        told = {folder + path.replace("\\", "/").removeprefix("./"): label for path, label in pairs}
        if _base(name) == _TINY:
            told |= {f"{folder}images/{path}": label for path, label in pairs}
        below = [image for image in images if image.startswith(folder)]
        if pairs and not any(image in told for image in below):
            lines.append(f"labels: {name} names none of the images here and is not used (it names {pairs[0][0]})")
            continue
        found.update((image, told.get(image)) for image in below)
        if pairs:
            lines.append(f"labels: from {name}, {_counted(found[image] for image in below)}")
    of_cls = _of_cls(files, names, images)
    if of_cls:
        found.update(of_cls)
        lines.append(f"labels: from .cls files, {_counted(of_cls.values())}")
    return found, lines


def _of_dataset_json(files: Files, name: str) -> tuple[list[Pair] | None, str]:
    """StyleGAN's and EDM2's: ``{"labels": [[path, number], ...]}``, or null where there are none."""
    content = _json("root", files.where(name), _read(files, name))
    if not isinstance(content, dict) or "labels" not in content:
        return None, ""
    labels = content["labels"]
    if not labels:
        return [], "it has none, and folders beside it tell none"
    pairs = labels.items() if isinstance(labels, dict) else labels
    if not all(isinstance(pair, list | tuple) and len(pair) == 2 and isinstance(pair[0], str) for pair in pairs):
        raise UserError("root", files.where(name), "its labels are not pairs of path and class", "make it again")
    if any(isinstance(label, list | dict | float) for _, label in pairs):
        return [], "vectors are no classes"
    return [(path, _text(label)) for path, label in pairs], ""


def _of_metadata_csv(files: Files, name: str) -> tuple[list[Pair] | None, str]:
    """Hugging Face's: ``file_name,label``."""
    try:
        header, *rows = csv_rows(_read(files, name), _BYTES) or [[]]
    except (ValueError, csv.Error) as error:
        raise UserError("root", files.where(name), f"cannot be read ({error})", "mend or remove it") from error
    records = [dict(zip(header, row, strict=False)) for row in rows if any(row)]
    return _of_records(records)


def _of_metadata_jsonl(files: Files, name: str) -> tuple[list[Pair] | None, str]:
    """Hugging Face's: ``{"file_name": ..., "label": ...}`` in each line."""
    lines = _read(files, name).split(b"\n")
    records = [_json("root", files.where(name), line) for line in lines if line.strip()]
    if not all(isinstance(record, dict) for record in records):
        raise UserError("root", files.where(name), "has a line that is no object", "mend or remove it")
    return _of_records(records)


def _of_records(records: Sequence[dict[str, Any]]) -> tuple[list[Pair] | None, str]:
    columns = dict.fromkeys(column for record in records for column in record)
    path = next((column for column in columns if column == "file_name" or column.endswith("_file_name")), None)
    label = next((column for column in _LABEL_COLUMNS if column in columns), None)
    if path is None or label is None:
        return None, ""
    if any(isinstance(record.get(label), list | dict) for record in records):
        return None, f"lists are no classes: {label}"
    return [(str(record[path]), _text(record.get(label))) for record in records if record.get(path)], ""


_TINY = "val_annotations.txt"


def _of_val_annotations(files: Files, name: str) -> tuple[list[Pair] | None, str]:
    """Tiny-ImageNet's: file, class and a box in each line, with tabs between them."""
    rows = [line.split("\t") for line in _read(files, name).decode("utf-8", _BYTES).split("\n") if line.strip()]
    return [(row[0], row[1].strip() or None) for row in rows if len(row) > 1], ""


_READERS: dict[str, Callable[[Files, str], tuple[list[Pair] | None, str]]] = {
    "dataset.json": _of_dataset_json,
    "metadata.csv": _of_metadata_csv,
    "metadata.jsonl": _of_metadata_jsonl,
    _TINY: _of_val_annotations,
}


def _of_cls(files: Files, names: Sequence[str], images: Sequence[str]) -> dict[str, str | None]:
    """WebDataset's: the class of ``a/1.jpg`` stands in ``a/1.cls``; in such a folder images without one have none."""
    cls = {name[: -len(".cls")]: name for name in names if name.lower().endswith(".cls") and not is_hidden(name)}
    folders = {key.rpartition("/")[0] for key in cls}
    found: dict[str, str | None] = {}
    for image in images:
        folder, _, base = image.rpartition("/")
        if folder not in folders:
            continue
        key = f"{folder}/{base.partition('.')[0]}".removeprefix("/")
        if key not in cls:
            found[image] = None
            continue
        long = files.size(cls[key]) > _MOST_OF_CLS
        text = "" if long else _read(files, cls[key]).decode("utf-8", "replace").strip()
        if not text:
            raise UserError("root", files.where(cls[key]), "is no class of an image", "mend or remove it")
        found[image] = None if text == "-1" else text
    return found


@dataclass(frozen=True)
class LabelFile:
    """A file of one's own that says the class of images, by id or by path.

    Attributes:
        path: where it is.
        by_id: whether images are named by id; otherwise by path.
        keys: which images.
        labels: their classes, as they are written.
    """

    path: Path
    by_id: bool
    keys: list[str]
    labels: list[str]

    @classmethod
    def read(cls, path: Path) -> "LabelFile":
        """Read the file, without looking for its images.

        * ``.json``: a list of objects with ``label`` beside ``id`` or ``path``, the class of each path (or id), or
          ``{"labels": [[path, class], ...]}``; ``.jsonl``: an object in each line.
        * any other: CSV (``.tsv``: with tabs) with a header, and in it a column ``label`` beside ``id`` or ``path``.

        Raises:
            UserError: there is no such file, it is none of this kind, or names an image twice.
        """
        try:
            content = read_limited(path, TABLE_BYTES)
        except OSError as error:
            raise UserError("labels", path, f"cannot be read ({error})") from error
        suffix = path.suffix.lower()
        if suffix == ".json":
            kind, pairs = _of_json(path, _json("labels", path, content))
        elif suffix == ".jsonl":
            lines = [_json("labels", path, line) for line in content.split(b"\n") if line.strip()]
            kind, pairs = _of_json(path, lines)
        else:
            kind, pairs = _of_table(path, content, "\t" if suffix == ".tsv" else ",")
        for key, label in pairs:
            if label == "-1":
                raise UserError("labels", path, f"label -1 of {kind} {key} is no class", "leave such rows out")
        twice = next((key for key, times in Counter(key for key, _ in pairs).items() if times > 1), None)
        if twice is not None:
            raise UserError("labels", path, f"{kind} {twice} is in it twice")
        if not pairs:
            raise UserError("labels", path, "names no image", f"give {_FORMS}")
        return cls(path, kind == "id", [key for key, _ in pairs], [label for _, label in pairs])

    def classes(self, source: JoinedSource, left_out: Collection[str] = ()) -> tuple[list[str], Ids]:
        """Its classes, in alphabetical order, or by number where all are whole numbers, with the images they belong to.

        Args:
            source: every image of the data set.
            left_out: names of images that are in the same place and not in the data set, which the file may name.

        Returns:
            Names of the classes, and ``int64 (N,)`` the class of every image; -1 where the file does not say.

        Raises:
            UserError: it names an image that is not in the data set, or by a path that two images have.
        """
        numbers = self._ids(source, left_out)
        kept = [label for label, number in zip(self.labels, numbers, strict=True) if number is not None]
        names, labels = _numbered(kept)
        by_id = np.full(len(source), -1, dtype=np.int64)
        by_id[[number for number in numbers if number is not None]] = labels
        return names, by_id

    def _ids(self, source: JoinedSource, left_out: Collection[str]) -> list[int | None]:
        by_id = "name them by id"
        if self.by_id:
            known = {str(number): number for number in range(len(source))}
            unknown = [key for key in self.keys if key not in known]
            if unknown:
                example = f"ids go from 0 to {len(source) - 1}"
                raise UserError("labels", self.path, f"no such image: id {few_words(unknown)}", example)
            return [known[key] for key in self.keys]
        if not source.names:
            raise UserError("labels", self.path, "these images are in no files of their own", by_id)
        if len(set(source.names)) < len(source):
            raise UserError("labels", self.path, "training and held-out images share paths", by_id)
        found, missing = match_paths(self.keys, [*source.names, *left_out])
        if missing:
            example = f"paths are written as {source.names[0]}"
            raise UserError("labels", self.path, f"no such image: path {few_words(missing)}", example)
        return [number if number < len(source) else None for number in found]


def _of_table(path: Path, content: bytes, delimiter: str) -> tuple[str, list[tuple[str, str]]]:
    try:
        header, *rows = csv_rows(content, delimiter=delimiter) or [[]]
    except (ValueError, csv.Error) as error:
        raise UserError("labels", path, f"cannot be read ({error})") from error
    names = [name.strip().lower() for name in header]
    key = next((name for name in (*ID_COLUMNS, *_PATH_COLUMNS) if name in names), None)
    label = next((name for name in _LABEL_COLUMNS if name in names), None)
    if key is None or label is None:
        why = f"the first line must name the columns id,label (or path,label), not {header}"
        raise UserError("labels", path, why)
    kind = "id" if key in ID_COLUMNS else "path"
    cells = names.index(key), names.index(label)
    pairs = []
    for number, row in enumerate([row for row in rows if row], start=2):
        if len(row) != len(header) or not all(row[cell].strip() for cell in cells):
            raise UserError("labels", path, f"row {number} has no {kind} or no label: {','.join(row)!r}")
        pairs.append((row[cells[0]].strip(), row[cells[1]].strip()))
    return kind, pairs


def _of_json(path: Path, value: Any) -> tuple[str, list[tuple[str, str]]]:
    if isinstance(value, dict) and isinstance(value.get("labels"), list | dict):
        value = value["labels"]
    kind, pairs = "path", []
    if isinstance(value, dict):
        pairs = list(value.items())
        kind = "id" if all(key.isdecimal() for key in value) else "path"
    elif isinstance(value, list) and all(isinstance(item, list) and len(item) == 2 for item in value):
        pairs = [(item[0], item[1]) for item in value]
    elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        columns = value[0]
        key = next((name for name in (*ID_COLUMNS, *_PATH_COLUMNS) if name in columns), None)
        label = next((name for name in _LABEL_COLUMNS if name in columns), None)
        if key is not None and label is not None:
            kind = "id" if key in ID_COLUMNS else "path"
            pairs = [(item.get(key), item.get(label)) for item in value]
    if not pairs:
        raise UserError("labels", path, "says of no image which class it has", f"give {_FORMS}")
    texts = []
    for number, (key, label) in enumerate(pairs, start=1):
        whole = isinstance(key, int | str) and not isinstance(key, bool) and isinstance(label, int | str)
        if not whole or not str(key).strip() or not str(label).strip():
            raise UserError("labels", path, f"entry {number} has no {kind} or no label: {json.dumps([key, label])}")
        texts.append((str(key).strip(), str(label).strip()))
    return kind, texts


def _numbered(labels: list[str]) -> tuple[list[str], list[int]]:
    """Names of the classes in order, and the class of each label."""
    if all(label.isdecimal() for label in labels):
        names = [str(value) for value in sorted({int(label) for label in labels})]
        labels = [str(int(label)) for label in labels]
    else:
        names = sorted(set(labels))
    numbers = {name: number for number, name in enumerate(names)}
    return names, [numbers[label] for label in labels]


def _text(label: object) -> str | None:
    """A class as text; None for what says that there is none."""
    text = "" if label is None else str(label).strip()
    return None if text in ("", "-1") else text


def _counted(labels: Iterable[str | None]) -> str:
    """How many classes, and how many images have none."""
    counts = Counter(labels)
    none = counts.pop(None, 0)
    return f"{len(counts)} class{'es' * (len(counts) != 1)}" + (f", and {none} images have none" if none else "")


def _json(argument: str, place: object, content: bytes) -> Any:
    try:
        return parse_json(content, object)
    except ValueError as error:
        raise UserError(argument, place, f"is not JSON ({error})", "mend it") from error


def _read(files: Files, name: str) -> bytes:
    try:
        return files.read(name)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise UserError("root", files.where(name), f"cannot be read ({error})", "mend or remove it") from error


def _base(name: str) -> str:
    return name.rpartition("/")[2]
