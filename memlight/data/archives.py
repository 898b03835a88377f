"""Zip and tar archives read by many processes at once.

A handle shared over ``fork`` shares one file position, and readers then get one another's bytes. Here the index is
read once, and every member is read by a positioned read, which has no position to share.
"""

import os
import struct
import tarfile
import weakref
import zipfile
import zlib
from dataclasses import dataclass
from typing import Any, NamedTuple

from memlight.errors import UserError

_LOCAL_HEADER = struct.Struct("<4s22xHH")
_ENCRYPTED = 0x1
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")


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


@dataclass(frozen=True)
class Archive:
    """An indexed archive.

    Attributes:
        file: the archive.
        members: name -> place; of a name that occurs twice the last one counts, as for the usual tools.
        zipped: whether it is a zip, in which a local header precedes the data.
    """

    file: PositionedFile
    members: dict[str, Member]
    zipped: bool

    @property
    def names(self) -> list[str]:
        """Names of all files, in no particular order."""
        return list(self.members)

    def read(self, name: str) -> bytes:
        """The bytes of one file.

        Raises:
            OSError, EOFError, ValueError, zlib.error: they cannot be read or are not what was stored.
        """
        member = self.members[name]
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
        if not self.zipped:
            return member.offset
        signature, name_length, extra_length = _LOCAL_HEADER.unpack(self.file.read(member.offset, _LOCAL_HEADER.size))
        if signature != b"PK\3\4":
            raise ValueError("the archive's index points at something else")
        return int(member.offset + _LOCAL_HEADER.size + name_length + extra_length)


def open_archive(path: str) -> Archive:
    """Index a zip or an uncompressed tar.

    Raises:
        UserError: it is neither, is compressed as a whole, encrypted, damaged, or uses another compression.
    """
    if zipfile.is_zipfile(path):
        return Archive(PositionedFile(path), _zip_members(path), zipped=True)
    return Archive(PositionedFile(path), _tar_members(path), zipped=False)


def _zip_members(path: str) -> dict[str, Member]:
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
    return {
        entry.filename: Member(
            entry.header_offset,
            entry.compress_size,
            entry.file_size,
            entry.compress_type == zipfile.ZIP_DEFLATED,
            entry.CRC,
        )
        for entry in entries
    }


def _tar_members(path: str) -> dict[str, Member]:
    try:
        with tarfile.open(path, "r:") as archive:
            return {
                entry.name.removeprefix("./"): Member(entry.offset_data, entry.size, entry.size, False, None)
                for entry in archive
                if entry.isreg()
            }
    except tarfile.ReadError as error:
        raise UserError(f"--data.root {path}: {_why_not_tar(path)}") from error


def _why_not_tar(path: str) -> str:
    with open(path, "rb") as file:
        start = file.read(8)
    if start.startswith(_COMPRESSED):
        return "a compressed archive cannot be read from the middle; decompress it (gunzip, unxz), or unpack it."
    return "neither a zip nor a tar archive, or a damaged one; fetch it again, or unpack it."
