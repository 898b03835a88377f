"""Where the files of a zip or tar lie: read from the archive once, kept as arrays, and kept on disk where asked.

A million entries take `zipfile` seconds to list, and a tar has to be walked through; a kept index opens at once.
"""

import os
import tarfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from memlight.errors import UserError
from memlight.storage.tables import atomic_write

_ENCRYPTED = 0x1
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")
_NO_CRC = -1
_FORMAT = 1


class Member(NamedTuple):
    """Where one file lies in an archive.

    Attributes:
        offset: of the data (tar), or of the local header before it (zip), in bytes.
        stored: bytes that the data takes up in the archive.
        size: bytes of the file.
        deflated: whether the data is compressed.
        crc: CRC-32 of the file; None where the archive has none.
    """

    offset: int
    stored: int
    size: int
    deflated: bool
    crc: int | None


@dataclass(frozen=True, eq=False)
class ArchiveIndex:
    """The files of an archive; of a name that occurs twice the last one counts, as for the usual tools.

    Attributes:
        names: of the files, in the order of the archive.
        numbers: ``int64 (N, 5)``, a `Member` each; a CRC of -1 is none.
        zipped: whether it is a zip, in which a local header precedes the data.
    """

    names: list[str]
    numbers: NDArray[np.int64]
    zipped: bool

    def member(self, number: int) -> Member:
        """The place of the file ``names[number]``."""
        offset, stored, size, deflated, crc = self.numbers[number].tolist()
        return Member(offset, stored, size, bool(deflated), None if crc == _NO_CRC else crc)


def read_index(path: str, kept: Path | None = None) -> ArchiveIndex:
    """Index a zip or an uncompressed tar.

    Args:
        path: the archive.
        kept: a file that keeps the index: read where it is there and the archive has not changed since (by size and
            time of change), and otherwise written.

    Raises:
        UserError: it is neither, is compressed as a whole, encrypted, damaged, or uses another compression.
    """
    status = os.stat(path)
    state = np.array([_FORMAT, status.st_size, status.st_mtime_ns], dtype=np.int64)
    if kept is not None and (index := _load(kept, state)) is not None:
        return index
    index = _zip_index(path) if zipfile.is_zipfile(path) else _tar_index(path)
    if kept is not None:
        _save(kept, index, state)
    return index


def _save(kept: Path, index: ArchiveIndex, state: NDArray[np.int64]) -> None:
    names = "\0".join(index.names).encode(errors="surrogateescape")
    with atomic_write(kept) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            state=state,
            zipped=np.array(index.zipped),
            numbers=index.numbers,
            names=np.frombuffer(names, dtype=np.uint8),
        )


def _load(kept: Path, state: NDArray[np.int64]) -> ArchiveIndex | None:
    try:
        with kept.open("rb") as file, np.load(file) as arrays:
            if not np.array_equal(arrays["state"], state):
                return None
            names, numbers = arrays["names"].tobytes().decode(errors="surrogateescape"), arrays["numbers"]
            index = ArchiveIndex(names.split("\0") if len(numbers) else [], numbers, bool(arrays["zipped"]))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return index if len(index.names) == len(numbers) else None


def _zip_index(path: str) -> ArchiveIndex:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise UserError(f"--data.root {path}: damaged zip archive ({error}).") from error
    for entry in entries:
        if entry.flag_bits & _ENCRYPTED:
            raise UserError(f"--data.root {path}: {entry.filename} is encrypted; unpack the archive.")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise UserError(
                f"--data.root {path}: {entry.filename} is neither stored nor deflated; unpack the archive, "
                "or zip it again with `zip -0`."
            )
    rows = [
        (
            entry.header_offset,
            entry.compress_size,
            entry.file_size,
            entry.compress_type == zipfile.ZIP_DEFLATED,
            entry.CRC,
        )
        for entry in entries
    ]
    return ArchiveIndex([entry.filename for entry in entries], _numbers(rows), zipped=True)


def _tar_index(path: str) -> ArchiveIndex:
    try:
        with tarfile.open(path, "r:") as archive:
            found = [
                (entry.name.removeprefix("./"), (entry.offset_data, entry.size, entry.size, False, _NO_CRC))
                for entry in archive
                if entry.isreg()
            ]
    except tarfile.ReadError as error:
        raise UserError(f"--data.root {path}: {_why_not_tar(path)}") from error
    return ArchiveIndex([name for name, _ in found], _numbers([row for _, row in found]), zipped=False)


def _numbers(rows: Sequence[tuple[Any, ...]]) -> NDArray[np.int64]:
    return np.array(rows, dtype=np.int64).reshape(-1, len(Member._fields))


def _why_not_tar(path: str) -> str:
    with open(path, "rb") as file:
        start = file.read(8)
    if start.startswith(_COMPRESSED):
        return "a compressed archive cannot be read from the middle; decompress it (gunzip, unxz), or unpack it."
    return "neither a zip nor a tar archive, or a damaged one; fetch it again, or unpack it."
