"""Zip and tar archives read by many processes at once.

A handle shared over ``fork`` shares one file position, and readers then get one another's bytes. Here the index is
read once, and every member is read by a positioned read, which has no position to share.
"""

import os
import struct
import weakref
import zlib
from pathlib import Path
from typing import Any

from memlight.data.archive_index import ArchiveIndex, Member, read_index

_LOCAL_HEADER = struct.Struct("<4s22xHH")


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
        kept_index: the file that keeps it; see `memlight.data.archive_index.read_index`.

    Raises:
        UserError: it is neither, is compressed as a whole, encrypted, damaged, or uses another compression.
    """
    return Archive(PositionedFile(path), read_index(path, kept_index))
