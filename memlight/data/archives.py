"""Zip and tar archives read by many processes at once.

A handle shared over ``fork`` shares one file position, and readers then get one another's bytes. Here the index is
read once, and every member is read by a positioned read, which has no position to share. A million entries take
`zipfile` seconds to list, and a tar has to be walked through, so the index is kept on disk where asked.
"""

import os
import re
import shlex
import struct
import tarfile
import weakref
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from memlight.errors import UserError
from memlight.storage.arrays import DAMAGED, read_npz
from memlight.storage.run_files import MOST_SIDE
from memlight.storage.writing import atomic_write

MOST_FILE = 3 * MOST_SIDE**2
"""Bytes of a file that is read as an image: what the largest one takes up where it is not compressed."""

_LOCAL_HEADER = struct.Struct("<4s22xHH")
_ENCRYPTED = 0x1
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")
_NO_CRC = -1
_DAMAGED = (
    *(OSError, EOFError, ValueError, LookupError, TypeError, OverflowError, MemoryError, RecursionError),
    *(RuntimeError, AttributeError, struct.error, zlib.error),
)
"""What `zipfile` and `tarfile` raise for damaged archives, besides errors of their own."""
_FORMAT = 2
_UNIX = 3
"""Number of the system that an entry of a zip says it was made on, where folders never stand between backslashes."""


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


class PositionedFile:
    """A file whose reads carry their own position; may be forked, pickled and shared between threads."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._descriptor = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._descriptor)

    def __reduce__(self) -> tuple[Any, ...]:
        return PositionedFile, (self.path,)

    def read(self, offset: int, size: int) -> bytes:
        """Read ``size`` bytes at ``offset``.

        Raises:
            EOFError: the file ends before.
        """
        data = os.pread(self._descriptor, size, offset)
        while len(data) < size:
            more = os.pread(self._descriptor, size - len(data), offset + len(data))
            if not more:
                raise EOFError(f"{self.path} ends before byte {offset + size}")
            data += more
        return data


class Archive:
    """An indexed archive.

    Args:
        file: the archive.
        index: its files.
    """

    def __init__(self, file: PositionedFile, index: ArchiveIndex) -> None:
        self.file, self.index = file, index
        self._number_of = {name: number for number, name in enumerate(index.names)}

    @property
    def names(self) -> list[str]:
        """Names of all files, in no particular order."""
        return list(self._number_of)

    def size(self, name: str) -> int:
        """How many bytes a file has."""
        return self.index.member(self._number_of[name]).size

    def read(self, name: str) -> bytes:
        """The bytes of one file.

        Raises:
            OSError, EOFError, ValueError, zlib.error: they cannot be read or are not what was stored.
        """
        member = self.index.member(self._number_of[name])
        if max(member.size, member.stored) > MOST_FILE:
            raise ValueError(f"it claims {member.size} bytes, and an image has {MOST_FILE} at most")
        data = self.file.read(self._data_offset(member), member.stored)
        if member.deflated:
            data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, member.size)
        if len(data) != member.size or (member.crc is not None and zlib.crc32(data) != member.crc):
            raise ValueError("its bytes do not match the archive's checksum")
        return data

    def where(self, name: str) -> str:
        """How an error message calls one file."""
        return f"{self.file.path}:{name}"

    def _data_offset(self, member: Member) -> int:
        if not self.index.zipped:
            return member.offset
        signature, name_length, extra_length = _LOCAL_HEADER.unpack(self.file.read(member.offset, _LOCAL_HEADER.size))
        if signature != b"PK\3\4":
            raise ValueError("the archive's index points at something else")
        return int(member.offset + _LOCAL_HEADER.size + name_length + extra_length)


def open_archive(path: str, kept_index: Path | None = None) -> Archive:
    """Index a zip or an uncompressed tar, or read the index that an earlier call kept.

    Args:
        path: the archive.
        kept_index: the file that keeps it; see `read_index`.

    Raises:
        UserError: it is neither, is compressed as a whole, encrypted, damaged, or uses another compression.
    """
    return Archive(PositionedFile(path), read_index(path, kept_index))


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
        letters = np.frombuffer(names, dtype=np.uint8)
        np.savez(file, state=state, zipped=np.array(index.zipped), numbers=index.numbers, names=letters)


def _load(kept: Path, state: NDArray[np.int64]) -> ArchiveIndex | None:
    try:
        arrays = read_npz(kept, ("state", "zipped", "numbers", "names"))
    except DAMAGED:
        return None
    numbers, zipped = arrays["numbers"], arrays["zipped"]
    if not np.array_equal(arrays["state"], state) or zipped.shape or numbers.dtype != np.int64:
        return None
    text = arrays["names"].tobytes().decode(errors="surrogateescape")
    names = text.split("\0") if text or len(numbers) else []
    if numbers.shape != (len(names), len(Member._fields)) or not _possible(numbers, int(state[1])):
        return None
    return ArchiveIndex(names, numbers, bool(zipped))


def _possible(numbers: NDArray[np.int64], size: int) -> bool:
    """Whether every file of an index lies in an archive of so many bytes."""
    offset, stored = numbers[:, 0], numbers[:, 1]
    return bool((numbers[:, :3] >= 0).all() and (offset <= size).all() and (stored <= size - offset).all())


def _zip_index(path: str) -> ArchiveIndex:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = _with_slashes(archive.infolist())
    except (zipfile.BadZipFile, *_DAMAGED) as error:
        raise UserError("root", path, f"damaged zip archive ({error})") from error
    for entry in entries:
        if entry.flag_bits & _ENCRYPTED:
            raise UserError("root", path, f"{entry.filename} is encrypted", "unpack the archive")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            ways_out = ["unpack the archive", "zip it again with `zip -0`"]
            raise UserError("root", path, f"{entry.filename} is neither stored nor deflated", ways_out)
    rows = [
        (e.header_offset, e.compress_size, e.file_size, e.compress_type == zipfile.ZIP_DEFLATED, e.CRC) for e in entries
    ]
    return ArchiveIndex([entry.filename for entry in entries], _numbers(rows, path), zipped=True)


def _with_slashes(entries: Sequence[zipfile.ZipInfo]) -> list[zipfile.ZipInfo]:
    """The files of a zip; where Windows put backslashes between folders, with slashes."""
    slashes = any("/" in entry.filename for entry in entries)
    for entry in entries:
        if not slashes or entry.create_system != _UNIX:
            entry.filename = entry.filename.replace("\\", "/")
    return [entry for entry in entries if not entry.is_dir()]


def _tar_index(path: str) -> ArchiveIndex:
    try:
        with tarfile.open(path, "r:") as archive:
            files = [
                (entry.name.removeprefix("./"), (entry.offset_data, entry.size, entry.size, False, _NO_CRC))
                for entry in _onwards(archive)
                if entry.isreg()
            ]
    except (tarfile.TarError, *_DAMAGED) as error:
        raise UserError("root", path, *_why_not_tar(path)) from error
    return ArchiveIndex([name for name, _ in files], _numbers([row for _, row in files], path), zipped=False)


def _onwards(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """The entries of a tar, each behind the one before: a negative size would lead back, again and again."""
    before = -1
    for entry in archive:
        if entry.offset <= before or entry.size < 0:
            raise tarfile.ReadError("leads back to an earlier entry")
        before = entry.offset
        yield entry


def _numbers(rows: Sequence[tuple[Any, ...]], path: str) -> NDArray[np.int64]:
    try:
        numbers = np.array(rows, dtype=np.int64).reshape(-1, len(Member._fields))
    except OverflowError as error:
        raise UserError("root", path, "damaged archive (a size of more than 63 bits)", "fetch it again") from error
    if not _possible(numbers, os.stat(path).st_size):
        raise UserError("root", path, "damaged archive (a file in it would lie outside of it)", "fetch it again")
    return numbers


def _why_not_tar(path: str) -> tuple[str, list[str]]:
    """What is wrong with a file that is neither archive, and the ways out."""
    with open(path, "rb") as file:
        start = file.read(8)
    if start.startswith(_COMPRESSED):
        folder = re.sub(r"(\.tar)?\.\w+$", "", path) or "images"
        line = shlex.join(["mkdir", folder]) + " && " + shlex.join(["tar", "-xf", path, "-C", folder])
        return "a compressed archive cannot be read from the middle", [f"unpack it with `{line}`"]
    return "neither a zip nor a tar archive, or a damaged one", ["fetch it again", "unpack it"]
