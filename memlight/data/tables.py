"""Images in tables: a data set of Hugging Face, one that was saved with ``save_to_disk``, or Parquet files.

They are read by the library ``datasets``, which keeps what it fetches or converts in its own cache; no code of a data
set is run. Without it there is one error that says how to install it.
"""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from memlight.data.archives import MOST_FILE
from memlight.data.files import Listing, is_hidden
from memlight.data.layout import Half, half_of
from memlight.errors import UserError
from memlight.storage.opening import read_limited

HUB = "hf:"
"""What comes before the name of a data set of Hugging Face's: ``hf:org/name`` or ``hf:org/name:configuration``."""

_SAVED = ("dataset_dict.json", "state.json")
_PARQUET = ".parquet"
_WORD = re.compile(r"[-_./]")
_IMAGES = ("image", "img", "images", "jpg", "jpeg", "png", "webp", "picture", "pixels")
_LABELS = ("label", "labels", "fine_label", "class", "category", "target", "cls")


def is_table(root: str) -> bool:
    """Whether a place is a table by its name: ``hf:...``, or a Parquet file that is there."""
    return root.startswith(HUB) or (root.lower().endswith(_PARQUET) and os.path.isfile(root))


def holds_tables(names: Iterable[str]) -> bool:
    """Whether files are those of a saved data set, or Parquet files."""
    return any(name in _SAVED or (name.lower().endswith(_PARQUET) and not is_hidden(name)) for name in names)


class TableImages:
    """The images of a table as files, which are named ``train/0001.png`` or, where they have no names, ``train/12``.

    Args:
        root: ``hf:`` and a name, a Parquet file, or a folder of Parquet files or of a saved data set.

    Raises:
        UserError: the library is missing, there is no such data set, or it has no column of images.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self._parts: dict[str, Any] = {}
        self._labels: dict[str, list[str | None]] = {}
        self._classes: list[str] = []
        self._place_of: dict[str, tuple[str, int]] = {}
        for part, rows in _loaded(root).items():
            self._add(part, rows)

    @property
    def names(self) -> list[str]:
        """Names of all images, in the order of the table."""
        return list(self._place_of)

    def read(self, name: str) -> bytes:
        """The bytes of one image.

        Raises:
            OSError, ValueError: there are none, or too many.
        """
        part, row = self._place_of[name]
        cell = self._parts[part][row]["image"] or {}
        if cell.get("bytes") is not None:
            data: bytes = cell["bytes"]
            if len(data) > MOST_FILE:
                raise ValueError(f"it has {len(data)} bytes, and an image has {MOST_FILE} at most")
            return data
        if not cell.get("path"):
            raise ValueError("the table has no image in this row")
        return read_limited(cell["path"], MOST_FILE)

    def size(self, name: str) -> int:
        """How many bytes an image has; 0 for none."""
        try:
            return len(self.read(name))
        except (OSError, ValueError):
            return 0

    def where(self, name: str) -> str:
        """How an error message calls one image."""
        return f"{self.root}:{name}"

    def listings(self) -> tuple[Listing, Listing]:
        """The training images and the test images, in the order of the table, with what was found in words."""
        halves = {part: half_of(part) for part in self._parts}
        both = {"train", "test"} <= set(halves.values())
        chosen: dict[str, Half | None] = halves if both else dict.fromkeys(halves, "train")
        numbers = {name: number for number, name in enumerate(self._classes)}
        names: dict[str, list[str]] = {"train": [], "test": []}
        labels: dict[str, list[int]] = {"train": [], "test": []}
        for name, (part, row) in self._place_of.items():
            if (half := chosen[part]) is not None:
                names[half].append(name)
                labels[half].append(numbers.get(self._labels[part][row] or "", -1))
        facts = [f"images: {self._words(chosen, 'train')} to train on"]
        if both:
            facts[0] += f", {self._words(chosen, 'test')} to test on"
        if left_out := [part for part, half in chosen.items() if half is None]:
            facts.append(f"left out: the parts {', '.join(left_out)}")
        of = f"{len(self._classes)} classes" if self._classes else "none"
        facts.append(f"labels: {of} in the table")
        train, test = (Listing(names[half], labels[half], self._classes, tuple(facts)) for half in ("train", "test"))
        return train, test

    def _words(self, chosen: Mapping[str, Half | None], wanted: str) -> str:
        return ", ".join(f"{len(self._parts[part])} in {part}" for part, half in chosen.items() if half == wanted)

    def _add(self, part: str, rows: Any) -> None:
        import datasets

        column = _image_column(rows.features)
        if column is None:
            why = f"no column of images; it has {', '.join(rows.column_names) or 'none'}"
            raise UserError("root", self.root, why, f"name the column of images {_IMAGES[0]}")
        label = _label_column(rows.features)
        self._labels[part] = [None] * len(rows) if label is None else self._classes_of(rows, label)
        bare = rows.select_columns([column]).rename_column(column, "image") if column != "image" else rows
        bare = bare.select_columns(["image"]).cast_column("image", datasets.Image(decode=False)).with_format(None)
        self._parts[part] = bare
        self._place_of |= {name: (part, row) for row, name in enumerate(_names(part, bare))}

    def _classes_of(self, rows: Any, label: str) -> list[str | None]:
        """The class of every row, by name; those of a column with names of its own keep their order."""
        known = getattr(rows.features[label], "names", None)
        values = list(rows[label])
        if known:
            of = [None if value is None or value < 0 else str(known[value]) for value in values]
            self._classes += [str(name) for name in known if str(name) not in self._classes]
            return of
        texts = [None if value is None or str(value) in ("", "-1") else str(value) for value in values]
        classes = {*self._classes, *(text for text in texts if text is not None)}
        whole = all(name.isdecimal() for name in classes)
        self._classes = sorted(classes, key=int) if whole else sorted(classes)
        return texts


def _loaded(root: str) -> dict[str, Any]:
    """The parts of a data set by name.

    Raises:
        UserError: the library is missing, or it finds no such data set.
    """
    try:
        import datasets
    except ImportError as error:
        why = "needs the library datasets, which is not installed"
        raise UserError("root", root, why, "install it: pip install 'memlight[datasets]'") from error
    name, _, configuration = root.removeprefix(HUB).partition(":") if root.startswith(HUB) else (root, "", "")
    try:
        if root.startswith(HUB):
            found = datasets.load_dataset(os.path.expanduser(name), configuration or None)
        elif any(os.path.isfile(os.path.join(root, file)) for file in _SAVED):
            found = datasets.load_from_disk(root)
        else:
            found = datasets.load_dataset("parquet", data_files=_parquet_parts(root))
    except (OSError, ValueError, RuntimeError, LookupError, TypeError, datasets.exceptions.DatasetsError) as error:
        why = f"datasets cannot read it ({' '.join(str(error).split()) or type(error).__name__})"
        ways = ["check its name", "without a network, save it elsewhere with save_to_disk and give that folder"]
        raise UserError("root", root, why, ways if root.startswith(HUB) else "save it again") from error
    return dict(found) if isinstance(found, dict) else {"train": found}


def _parquet_parts(root: str) -> dict[str, list[str]]:
    """Parquet files by the part that their names say; those of which no name says one are one part."""
    if os.path.isfile(root):
        paths = [root]
    else:
        paths = sorted(
            os.path.join(folder, file)
            for folder, _, files in os.walk(root)
            for file in files
            if file.lower().endswith(_PARQUET) and not is_hidden(os.path.relpath(os.path.join(folder, file), root))
        )
    parts: dict[str, list[str]] = {}
    for path in paths:
        words = _WORD.split(os.path.relpath(path, root).replace(os.sep, "/").lower()) if path != root else []
        part = next((word for word in words if half_of(word) is not None), "images")
        parts.setdefault(part, []).append(path)
    return parts


def _image_column(features: Mapping[str, Any]) -> str | None:
    of_images = [name for name, feature in features.items() if type(feature).__name__ == "Image"]
    binary = [name for name in _IMAGES if name in features and _holds_bytes(features[name])]
    return next(iter((*of_images, *binary)), None)


def _holds_bytes(feature: Any) -> bool:
    if isinstance(feature, Mapping):
        return "bytes" in feature
    return getattr(feature, "dtype", None) in ("binary", "large_binary")


def _label_column(features: Mapping[str, Any]) -> str | None:
    plain = [name for name in _LABELS if getattr(features.get(name), "dtype", "") in _PLAIN]
    with_names = [name for name, feature in features.items() if type(feature).__name__ == "ClassLabel"]
    return next(iter((*plain, *with_names)), None)


_PLAIN = ("string", "large_string", "bool", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)))


def _names(part: str, rows: Any) -> Sequence[str]:
    """The files' own names where every image has one, else numbers."""
    numbers = [f"{part}/{row}" for row in range(len(rows))]
    if rows._indices is not None or not len(rows):
        return numbers
    import pyarrow.compute

    paths = pyarrow.compute.struct_field(rows.data.column("image"), "path").to_pylist()
    own = [PurePosixPath(path).name for path in paths if path]
    return [f"{part}/{name}" for name in own] if len(own) == len(paths) == len(set(own)) else numbers
