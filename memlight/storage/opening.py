"""Files that are to be read: regular ones alone, opened at once, and no larger than they may be."""

import os
import stat
from pathlib import Path
from typing import BinaryIO

_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a file for reading; a pipe, a socket or a device is refused, and not waited for.

    Raises:
        FileNotFoundError: there is nothing, or a link to nothing.
        OSError: it is not a file, or may not be read. The message is in words, without the path.
    """
    try:
        _require_regular(os.stat(path))
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    except FileNotFoundError as error:
        target = f"a link to {os.readlink(path)}, which is not there" if os.path.islink(path) else "no such file"
        raise FileNotFoundError(target) from error
    except OSError as error:
        raise type(error)(error.strerror or str(error)) from error
    except ValueError as error:  # a NUL in the name
        raise FileNotFoundError("no such file") from error
    try:
        _require_regular(os.fstat(descriptor))
    except OSError:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "rb")


def read_limited(path: str | os.PathLike[str], most: int) -> bytes:
    """The bytes of a file.

    Args:
        path: the file.
        most: bytes that it may have.

    Raises:
        OSError: as `open_regular`, or it is larger.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise OSError(f"it has {size} bytes, and such a file has {most} at most")
        return file.read(size)  # room is made for as much as is asked for


def is_regular(path: Path) -> bool:
    """Whether there is a file that can be opened without waiting for anybody."""
    try:
        open_regular(path).close()
    except OSError:
        return False
    return True


def _require_regular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise OSError(f"{_KINDS.get(stat.S_IFMT(status.st_mode), 'something else')}, not a file")
