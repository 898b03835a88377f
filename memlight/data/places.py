"""From a path to images: a folder, zip, tar, folder of tars, or a table of images."""

import os
import shlex
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from memlight.data.archives import open_archive
from memlight.data.files import Files, Folder, Listing, ending, is_hidden, is_image
from memlight.data.labels import labels_beside
from memlight.data.layout import list_images
from memlight.data.shards import Shards
from memlight.data.tables import TableImages, holds_tables, is_table
from memlight.errors import UserError

_ARCHIVES = (".tar", ".zip", ".tgz", ".gz", ".xz", ".bz2", ".zst")
_LOOKED_THROUGH = 100_000


def exists(root: str) -> bool:
    """Whether there may be images: a path that is there, or a name that Hugging Face is asked for (``hf:...``)."""
    return is_table(root) or os.path.exists(os.path.expanduser(root))


def place_of(root: str) -> str:
    """An absolute path without links, which tells whether two are the same; a name of Hugging Face's as it is."""
    return root if root.startswith("hf:") else os.path.realpath(os.path.expanduser(root))


def name_of(root: str) -> str:
    """What images are called by where they are: the last part of the path, as it was given."""
    return (root if root.startswith("hf:") else os.path.abspath(root)).rstrip("/").rpartition("/")[2]


def open_files(root: str, kept_index: Path | None = None) -> Files:
    """A directory, zip, tar, directory of tars, or table of images.

    Args:
        root: its path, or ``hf:`` and a name on Hugging Face.
        kept_index: a file that keeps the index of a zip or tar, which is then opened at once the next time.

    Raises:
        UserError: there is no such thing, or it cannot be read.
    """
    if is_table(root):
        return TableImages(root)
    if os.path.isdir(root):
        folder = Folder(root)
        names = [] if _has_image(root) else folder.names
        if any(is_image(name) for name in names):
            return folder
        if holds_tables(names):
            return TableImages(root)
        if tars := [name for name in names if name.lower().endswith(".tar") and not is_hidden(name)]:
            return Shards(root, tars)
        return folder
    if os.path.isfile(root):
        return open_archive(root, kept_index)
    raise UserError("root", root, "no such directory or archive")


def open_images(root: str, kept_index: Path | None = None) -> tuple[Files, Listing, Listing]:
    """A directory, archive or table with its training images and its test images; arguments as for `open_files`.

    Classes are those that a file beside the images tells (`labels_beside`), or else the folders they are in.

    Raises:
        UserError: there is no such thing, it cannot be read, or it has no training image.
    """
    files = open_files(root, kept_index)
    if isinstance(files, TableImages):
        train, test = files.listings()
    else:
        names = files.names
        train, test = list_images(names, *labels_beside(files, names))
    if not train.names:
        raise _no_images(root, files.names)
    return files, train, test


def list_training_images(root: str, kept_index: Path | None = None) -> tuple[Files, list[str]]:
    """Where images are, and the names of the training images, whose classes do not matter; as `open_images`."""
    files = open_files(root, kept_index)
    train, _ = files.listings() if isinstance(files, TableImages) else list_images(files.names)
    if not train.names:
        raise _no_images(root, files.names)
    return files, train.names


def _has_image(root: str) -> bool:
    """Whether one of the files that are seen first is an image, without listing all of a large folder."""
    files = (file for _, _, files in os.walk(root, followlinks=False) for file in files)
    return any(is_image(file) for file in islice(files, _LOOKED_THROUGH))


def _no_images(root: str, names: Iterable[str]) -> UserError:
    inner = sorted(name for name in names if ending(name) in _ARCHIVES and not is_hidden(name))
    if not inner:
        return UserError("root", root, "no images in it (looked for .jpg, .png, .webp and the like)")
    why = f"no images in it but {len(inner)} archives ({', '.join(inner[:3])}{', ...' * (len(inner) > 3)})"
    folder = root if os.path.isdir(root) else f"{root.removesuffix('.tar').removesuffix('.zip')}_images"
    each = 'for f in *.tar; do mkdir "${f%.tar}" && tar -xf "$f" -C "${f%.tar}" && rm "$f"; done'
    if not all(name.endswith(".tar") for name in inner):
        return UserError("root", root, why, "unpack them, each into a folder of its own, which is then a class")
    unpacked = "" if os.path.isdir(root) else f"mkdir {shlex.quote(folder)} && {_unpacked(root, folder)} && "
    return UserError("root", root, why, f"unpack them with `{unpacked}cd {shlex.quote(folder)} && {each}`")


def _unpacked(root: str, folder: str) -> str:
    return shlex.join(["unzip", root, "-d", folder] if root.endswith(".zip") else ["tar", "-xf", root, "-C", folder])
