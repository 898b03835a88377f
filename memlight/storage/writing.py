"""Files and directories that are written whole or not at all, whatever kills the writer."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from memlight.errors import UserError


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that takes its place, synced, when the block succeeds.

    A killed process leaves the old file or the new one, and an exception leaves the old one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield temporary
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Wait until a file's bytes, or a directory's names, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_directory(new: Path, old: Path) -> None:
    """Let ``new`` take the place of ``old``, which may not exist, in two renames."""
    retired = old.with_name(f".{old.name}.retired")
    shutil.rmtree(retired, ignore_errors=True)
    if old.exists():
        old.rename(retired)
    new.rename(old)
    sync(old.parent)
    shutil.rmtree(retired, ignore_errors=True)


@contextmanager
def writing(argument: str, place: Path, kept: str) -> Iterator[None]:
    """Within this block, a disk that refuses to be written is the user's to mend, as a `UserError`.

    Args:
        argument: that says where is written.
        place: what is written.
        kept: what is not lost, in words.
    """
    try:
        yield
    except OSError as error:
        raise UserError(argument, None, f"{place} cannot be written ({error}); {kept}") from error


def lacking(place: Path, needed: int) -> str:
    """How many of the needed bytes a directory, which need not exist, has no room for, in words; empty if for all."""
    there = next(path for path in (place.absolute(), *place.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    return f"{readable(needed)} are needed and {readable(free)} are free" if needed > free else ""


def readable(size: float) -> str:
    """A number of bytes for people."""
    units = ["bytes", "kB", "MB", "GB", "TB"]
    while size >= 1000 and len(units) > 1:
        size, units = size / 1000, units[1:]
    return f"{size:.3g} {units[0]}"
