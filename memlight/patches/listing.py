"""The images whose patches are embedded: names in order, and what tells them from others."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memlight.data.datasets import common_size
from memlight.data.decode import Size
from memlight.data.files import Files
from memlight.data.files import open_images as open_files
from memlight.errors import UserError, named


@dataclass(frozen=True, eq=False)
class ListedImages:
    """Images by id, which is the position in the sorted list of their names.

    Attributes:
        root: the folder, zip or tar, as an absolute path.
        files: its files.
        names: of the images.
    """

    root: str
    files: Files
    names: list[str]

    def common_size(self) -> Size:
        """(height, width) that all share, or else the square of their median shorter side, 256 at most."""
        with named(root="images"):
            return common_size(self.files, self.names)

    def identity(self) -> dict[str, Any]:
        """Which images these are, by names and sizes of files: the same in a folder and in an archive."""
        digest, sizes = hashlib.sha256(), hashlib.sha256()
        for name in self.names:
            digest.update(f"{name}\0".encode(errors="surrogateescape"))
            sizes.update(f"{self.files.size(name)} ".encode())
        return {
            "images": len(self.names),
            "names_sha256": digest.hexdigest(),
            "sizes_sha256": sizes.hexdigest(),
        }


def open_images(root: str, *, limit: int | None = None, kept_index: Path | None = None) -> ListedImages:
    """List the images of a folder, zip or tar; of one with train/ and val/ (or test/) those in train/.

    Args:
        root: its path.
        limit: at most so many, evenly spaced, since files are often sorted by class; None for all.
        kept_index: a file that keeps the index of an archive.

    Raises:
        UserError: there is no such thing, or no image in it.
    """
    place = os.path.realpath(os.path.expanduser(root))
    with named(root="images"):
        if not os.path.exists(place):
            raise UserError("root", root, "no such directory or archive")
        files, listing, _ = open_files(place, kept_index)
    names = listing.names
    if limit is not None and limit < len(names):
        names = [names[number * len(names) // limit] for number in range(limit)]
    return ListedImages(place, files, names)
