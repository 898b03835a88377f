"""Files by name, as a folder holds them; which of them are images; and lists of images with their classes."""

import hashlib
import os
from collections.abc import Container, Iterable
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import islice
from typing import Protocol

from PIL import Image

from memlight.data.archives import MOST_FILE
from memlight.errors import UserError
from memlight.storage.opening import read_limited

SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm"),
)
"""Endings, in any case, of the files that are taken for images, whatever Pillow was built with."""

_SUFFIXES_OF = {"AVIF": (".avif", ".avifs"), "JPEG2000": (".jp2", ".j2k", ".jpf", ".jpx")}
"""Endings of the formats that not every Pillow reads."""


class Files(Protocol):
    """Named bytes, readable from many processes at once."""

    @property
    def names(self) -> list[str]:
        """Names of all files, with ``/`` between directories."""

    def read(self, name: str) -> bytes:
        """The bytes of one file."""

    def size(self, name: str) -> int:
        """How many bytes a file has."""

    def where(self, name: str) -> str:
        """How an error message calls one file."""


@dataclass(frozen=True)
class Folder:
    """Every file under a directory; links are followed, hidden files left out.

    Attributes:
        root: the directory.
    """

    root: str

    @property
    def names(self) -> list[str]:
        """Names of all files, with ``/`` between directories, in no particular order."""
        names: list[str] = []
        seen: set[tuple[int, int]] = set()
        for directory, subdirectories, files in os.walk(self.root, followlinks=True, onerror=_refuse):
            status = os.stat(directory)
            if (status.st_dev, status.st_ino) in seen:
                subdirectories.clear()
                continue
            seen.add((status.st_dev, status.st_ino))
            prefix = os.path.relpath(directory, self.root).replace(os.sep, "/") + "/"
            names.extend((prefix + file).removeprefix("./") for file in files)
        return names

    def read(self, name: str) -> bytes:
        """The bytes of one file."""
        return read_limited(self.where(name), MOST_FILE)

    def size(self, name: str) -> int:
        """How many bytes a file has; 0 for a link to nothing."""
        try:
            return os.stat(self.where(name)).st_size
        except OSError:
            return 0

    def where(self, name: str) -> str:
        """The path of one file."""
        return os.path.join(self.root, name)


@dataclass(frozen=True)
class Listing:
    """The images of one split, ordered by path.

    Attributes:
        names: names of the files.
        labels: position of each image's class in ``classes``; -1 where it has none.
        classes: names of the classes, ascending; empty where there are none.
        facts: what somebody should know of how these were found, a line each.
    """

    names: list[str]
    labels: list[int]
    classes: list[str]
    facts: tuple[str, ...] = field(default=(), compare=False)

    def without(self, names: Container[str]) -> "Listing":
        """The same images but for some."""
        kept = [index for index, name in enumerate(self.names) if name not in names]
        return replace(self, names=[self.names[i] for i in kept], labels=[self.labels[i] for i in kept])

    def spaced(self, limit: int | None) -> "Listing":
        """At most so many of these images, evenly spaced, since files are often sorted by class; all for None."""
        count = len(self.names)
        if limit is None or limit >= count:
            return self
        kept = [number * count // limit for number in range(limit)]
        return replace(self, names=[self.names[i] for i in kept], labels=[self.labels[i] for i in kept])

    def fingerprint(self) -> str:
        """Hash of labels and paths, the directories that hold every image aside."""
        depth = common_depth(self.names)
        digest = hashlib.sha256()
        for name, label in zip(self.names, self.labels, strict=True):
            path = "/".join(name.split("/")[depth:])
            digest.update(f"{label} {path}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()


def is_image(name: str) -> bool:
    """Whether a file is taken for an image: by its ending; hidden ones, and what macOS adds to a zip, are not."""
    return ending(name) in suffixes() and not is_hidden(name)


def ending(name: str) -> str:
    """The ending of a file in lower case, with its dot; empty where it has none."""
    base = name.rpartition("/")[2]
    dot = base.rfind(".")
    return base[dot:].lower() if 0 < dot < len(base) - 1 else ""


def is_hidden(name: str) -> bool:
    """Whether a file, or a directory that it is in, is hidden, or is what macOS adds to a zip."""
    return name.startswith(".") or "/." in name or ("__MACOSX" in name and "__MACOSX" in name.split("/"))


@cache
def suffixes() -> frozenset[str]:
    """Endings of images that this Pillow reads, in lower case."""
    Image.init()
    more = (suffix for kind, endings in _SUFFIXES_OF.items() if kind in Image.OPEN for suffix in endings)
    return frozenset((*SUFFIXES, *more))


def common_depth(names: list[str]) -> int:
    """Number of leading directories that all names share; of sorted names the first and last tell."""
    if not names:
        return 0
    first, last = names[0].split("/")[:-1], names[-1].split("/")[:-1]
    shared = [a == b for a, b in zip(first, last, strict=False)]
    return shared.index(False) if False in shared else len(shared)


def without_labels(facts: Iterable[str]) -> list[str]:
    """The lines of `Listing.facts` that are not of classes: where a file tells other ones."""
    return [line for line in facts if not line.removeprefix("held out: ").startswith("labels: ")]


def few_words(places: Iterable[str], most: int = 5) -> str:
    """The first of some names, with dots where there are more."""
    first = list(islice(places, most + 1))
    return ", ".join(first[:most]) + ", ..." * (len(first) > most)


def _refuse(error: OSError) -> None:
    """A directory that cannot be listed would otherwise just be missing."""
    raise UserError("root", None, f"{error.filename} cannot be listed ({error.strerror})") from error
