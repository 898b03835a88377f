"""`.npy` and `.npz` files: a header is compared with the bytes that are there before room is made for an array."""

import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from memlight.storage.opening import open_regular
from memlight.storage.pickles import MALFORMED, load_words

Array = NDArray[Any]

INFLATED_BYTES = 1 << 30
"""What the compressed arrays of a file may take up in memory, or `INFLATED_TIMES` as much as the file where that is
more."""

INFLATED_TIMES = 20

_PLAIN = "biufcSU"
"""Kinds of arrays that are read: numbers, truth values, words of a fixed length; never objects or records."""

_NUMPY_RAISES = (
    *(ValueError, TypeError, OverflowError, MemoryError, RecursionError, SyntaxError, struct.error, EOFError),
    *(LookupError, AttributeError, tokenize.TokenError),
)

DAMAGED = (OSError, ValueError)
"""What the functions here raise for a file that is missing, damaged or of another kind; the message says which."""


def map_npy(path: Path) -> Array:
    """An array, mapped into memory and read-only.

    Raises:
        OSError: there is no such file, or it may not be read.
        ValueError: it is damaged, cut short, or holds something else than numbers, truth values or words.
    """
    with open_regular(path) as file:
        shape, fortran, dtype = _header(file)
        begin, left = file.tell(), os.fstat(file.fileno()).st_size - file.tell()
        if prod(shape) * dtype.itemsize > left:
            raise ValueError(f"claims {prod(shape) * dtype.itemsize} bytes of numbers and has {left}: cut short")
        if prod(shape) * dtype.itemsize == 0:
            return np.zeros(shape, dtype)
        return np.memmap(file, dtype, "r", begin, shape, "F" if fortran else "C")


def read_npz(path: Path, names: Collection[str] | None = None) -> dict[str, Array]:
    """The arrays of an ``.npz`` file.

    Args:
        path: the file.
        names: of the arrays that it must hold; None takes whatever it holds.

    Raises:
        OSError: there is no such file, or it may not be read.
        ValueError: it is damaged, holds something else than numbers, truth values or words, an array is missing, or
            compressed ones are larger than `INFLATED_BYTES`.
    """
    with _opened_npz(path) as archive:
        return _arrays(archive, os.stat(path).st_size, names)


class Described(NamedTuple):
    """An array that was not read.

    Attributes:
        shape: of it.
        kind: NumPy's letter for what is in it: i, u, f for numbers, S, U for words, O for Python's objects.
    """

    shape: tuple[int, ...]
    kind: str


def npz_contents(path: Path) -> dict[str, Described]:
    """What the arrays of an ``.npz`` file are, by name; none of them is read.

    Raises:
        OSError: there is no such file, or it may not be read.
        ValueError: it is damaged.
    """
    with _opened_npz(path) as archive:
        found = {}
        for entry in archive.infolist():
            with archive.open(entry) as file:
                shape, _, dtype = _any_header(file)
            found[entry.filename.removesuffix(".npy")] = Described(shape, dtype.kind)
        return found


def read_npz_words(path: Path, name: str) -> list[str]:
    """An array of words of an ``.npz`` file, which NumPy may have stored as a pickle; nothing in it is run.

    Raises:
        OSError: there is no such file, or it may not be read.
        ValueError: it is damaged, too large, or holds something else than words.
    """
    with _opened_npz(path) as archive:
        entry = archive.getinfo(f"{name}.npy")
        if entry.file_size > INFLATED_BYTES:
            raise ValueError(f"{name} takes {entry.file_size} bytes, and {INFLATED_BYTES} are unpacked at most")
        with archive.open(entry) as file:
            shape, _, dtype = _any_header(file)
            if dtype.kind == "O":
                words = load_words(file.read(entry.file_size))
            else:
                words = _array(archive, entry).ravel().tolist()
    if len(shape) != 1 or len(words) != shape[0] or not all(isinstance(word, str | bytes) for word in words):
        raise ValueError(f"{name} is no list of words")
    return [word if isinstance(word, str) else word.decode("utf-8", "surrogateescape") for word in words]


@contextmanager
def _opened_npz(path: Path) -> Iterator[zipfile.ZipFile]:
    with open_regular(path) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                yield archive
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, *_NUMPY_RAISES, *MALFORMED) as error:
            raise ValueError(str(error) or type(error).__name__) from error


def _arrays(archive: zipfile.ZipFile, size: int, names: Collection[str] | None) -> dict[str, Array]:
    entries = {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
    if len(entries) < len(archive.infolist()):
        raise ValueError("two of its arrays have one name")
    if lacking := [name for name in names or () if name not in entries]:
        raise ValueError(f"has no array {lacking[0]}")
    chosen = {name: entries[name] for name in entries if names is None or name in names}
    inflated = sum(entry.file_size for entry in chosen.values() if entry.compress_type != zipfile.ZIP_STORED)
    if inflated > max(INFLATED_BYTES, INFLATED_TIMES * size):
        raise ValueError(
            f"its arrays claim {inflated} bytes in a file of {size}, and so much is not unpacked; unpack it by hand "
            "and write it again with numpy.savez, if you trust it"
        )
    for name, entry in chosen.items():
        if entry.compress_type == zipfile.ZIP_STORED and entry.file_size != entry.compress_size:
            raise ValueError(f"{name} claims {entry.file_size} bytes and takes up {entry.compress_size}")
        if entry.file_size > size and entry.compress_type == zipfile.ZIP_STORED:
            raise ValueError(f"{name} claims more bytes than the file has")
    return {name: _array(archive, entry) for name, entry in chosen.items()}


def _array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Array:
    with archive.open(entry) as file:
        shape, fortran, dtype = _header(file)
        needed, left = prod(shape) * dtype.itemsize, entry.file_size - file.tell()
        if needed != left:
            raise ValueError(f"{entry.filename} claims {needed} bytes of numbers and has {left}")
        data = bytearray(needed)
        filled, view = 0, memoryview(data)
        while filled < needed and (count := file.readinto(view[filled:])):  # type: ignore[attr-defined]
            filled += count
        if filled < needed or file.read(1):
            raise ValueError(f"{entry.filename} is cut short")
    if needed == 0:
        return np.zeros(shape, dtype)
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


def _any_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, order and type, the file standing at its numbers after that."""
    try:
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
        elif version == (2, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_2_0(file)
        else:
            raise ValueError(f"an array in version {version} of the format")
    except _NUMPY_RAISES as error:
        raise ValueError(f"not an array ({str(error) or type(error).__name__})") from error
    return shape, bool(fortran), dtype


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """The same of an array that is read: numbers, truth values or words of a sensible shape."""
    shape, fortran, dtype = _any_header(file)
    if dtype.kind not in _PLAIN or dtype.hasobject:
        raise ValueError(f"an array of {dtype}; only numbers, truth values and words are read")
    if not all(type(side) is int and 0 <= side < 2**62 for side in shape) or len(shape) > 32:
        raise ValueError(f"an array of shape {shape}")
    return shape, fortran, dtype
