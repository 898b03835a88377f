"""A folder or an archive of images: which files there are, and which split and class their paths put them in."""

import hashlib
import os
from collections.abc import Container, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from memlight.data.archives import MOST_FILE, open_archive
from memlight.errors import UserError
from memlight.storage.opening import read_limited

SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm"),
)
"""Endings, in any case, of the files that are taken for images."""

_TEST_DIRECTORIES = ("test", "val")


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
    """

    names: list[str]
    labels: list[int]
    classes: list[str]

    def without(self, names: Container[str]) -> "Listing":
        """The same images but for some."""
        kept = [index for index, name in enumerate(self.names) if name not in names]
        return Listing([self.names[i] for i in kept], [self.labels[i] for i in kept], self.classes)

    def fingerprint(self) -> str:
        """Hash of labels and paths, the directories that hold every image aside."""
        depth = _common_depth(self.names)
        digest = hashlib.sha256()
        for name, label in zip(self.names, self.labels, strict=True):
            path = "/".join(_parts(name, depth))
            digest.update(f"{label} {path}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()


def open_files(root: str, kept_index: Path | None = None) -> Files:
    """A directory, zip or tar.

    Args:
        root: its path.
        kept_index: a file that keeps the index of a zip or tar, which is then opened at once the next time.

    Raises:
        UserError: there is no such thing, or it cannot be read.
    """
    if os.path.isdir(root):
        return Folder(root)
    if os.path.isfile(root):
        return open_archive(root, kept_index)
    raise UserError("root", root, "no such directory or archive")


def open_images(root: str, kept_index: Path | None = None) -> tuple[Files, Listing, Listing]:
    """A directory, zip or tar with its training images and its test images; arguments as for `open_files`.

    Raises:
        UserError: there is no such thing, it cannot be read, or it has no training image.
    """
    files = open_files(root, kept_index)
    train, test = list_images(files.names)
    if not train.names:
        raise UserError("root", root, "no images in it (looked for .jpg, .png, .webp and the like)")
    return files, train, test


def list_images(names: Iterable[str]) -> tuple[Listing, Listing]:
    """Sort image files into training and test images and into classes, by their paths alone.

    Directories that hold every image are skipped. With ``train/`` and ``test/`` (or ``val/``) below, those are the
    splits; otherwise every image is a training image. The first directory of what remains is the class. One
    directory that holds every image is no class, and an image that lies in no directory has none.

    Args:
        names: names of all files, images or not.

    Returns:
        The training images and the test images; equal files give equal lists, whatever holds them.
    """
    images = sorted(name for name in names if _is_image(name))
    depth = _common_depth(images)
    tops = {parts[0] for name in images if len(parts := _parts(name, depth)) > 1}
    test = next((name for name in _TEST_DIRECTORIES if name in tops), None)
    if "train" in tops and test is not None:
        train_names = [name for name in images if _parts(name, depth)[0] == "train"]
        test_names = [name for name in images if _parts(name, depth)[0] == test]
        depth += 1
    else:
        train_names, test_names = images, []
    return _classify(train_names, test_names, depth)


def _classify(train_names: list[str], test_names: list[str], depth: int) -> tuple[Listing, Listing]:
    def class_of(name: str) -> str:
        parts = _parts(name, depth)
        return parts[0] if len(parts) > 1 else ""

    classes = sorted({class_of(name) for name in train_names + test_names} - {""})
    if len(classes) < 2:
        classes = []
    labels = {name: label for label, name in enumerate(classes)}

    def listing(names: list[str]) -> Listing:
        return Listing(names, [labels.get(class_of(name), -1) for name in names], classes)

    return listing(train_names), listing(test_names)


def _refuse(error: OSError) -> None:
    """A directory that cannot be listed would otherwise just be missing."""
    raise UserError("root", None, f"{error.filename} cannot be listed ({error.strerror})") from error


def _is_image(name: str) -> bool:
    path = PurePosixPath(name)
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in path.parts)
    return path.suffix.lower() in SUFFIXES and not hidden


def _parts(name: str, depth: int) -> list[str]:
    """Path components below the directories that hold everything, the file name last."""
    return name.split("/")[depth:]


def _common_depth(names: list[str]) -> int:
    """Number of leading directories that all names share; of sorted names the first and last tell."""
    if not names:
        return 0
    first, last = names[0].split("/")[:-1], names[-1].split("/")[:-1]
    shared = [a == b for a, b in zip(first, last, strict=False)]
    return shared.index(False) if False in shared else len(shared)
