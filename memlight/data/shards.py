"""A folder of tars, such as the shards of a WebDataset, read without unpacking them."""

import re
from collections.abc import Sequence
from pathlib import Path

from memlight.data.archives import open_archive

_NUMBER = re.compile(r"(?:^|[-_.])\d+$")
"""How the name of a shard ends; ``n01440764`` does not end so, and is the class of what is in it."""


class Shards:
    """Every file in several tars.

    Those of a shard (``train-0001.tar``) are named ``train-0001.tar/000012.jpg``, and those of a tar that no number
    counts ``n01440764/n01440764_10.jpg``: a shard is no class, and such a tar is one.

    Args:
        root: the folder.
        tars: paths of the tars below it, with ``/`` between folders.
    """

    def __init__(self, root: str, tars: Sequence[str]) -> None:
        archives = {
            tar if _NUMBER.search(stem) else stem: open_archive(str(Path(root, tar)))
            for tar in sorted(tars)
            for stem in [tar.removesuffix(".tar")]
        }
        self._place_of = {f"{at}/{name}": (archive, name) for at, archive in archives.items() for name in archive.names}

    @property
    def names(self) -> list[str]:
        """Names of all files, in no particular order."""
        return list(self._place_of)

    def read(self, name: str) -> bytes:
        """The bytes of one file; raises as `memlight.data.archives.Archive.read`."""
        archive, inner = self._place_of[name]
        return archive.read(inner)

    def size(self, name: str) -> int:
        """How many bytes a file has."""
        archive, inner = self._place_of[name]
        return archive.size(inner)

    def where(self, name: str) -> str:
        """How an error message calls one file."""
        archive, inner = self._place_of[name]
        return archive.where(inner)
