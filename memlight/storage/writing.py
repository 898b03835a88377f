"""Files and directories that are written whole or not at all, whatever kills the writer."""

import ctypes
import errno
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from memlight.errors import UserError
from memlight.storage.locks import WriterLock


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that takes its place, synced, when the block succeeds.

    A killed process leaves the old file or the new one, and an exception leaves the old one. What a killed process
    leaves beside it, `sweep` deletes: the temporary file is locked while it is written, by a lock that ends with it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}-{secrets.token_hex(4)}.{path.name}")
    try:
        with _locked(temporary):
            yield temporary
            sync(temporary)
            temporary.replace(path)
            sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


_OURS = "csv|html|json|npy|npz|safetensors|txt|yaml"
_TEMPORARY = re.compile(rf"\.\d{{1,7}}(-[0-9a-f]{{8}}\..+|\.[^.]+\.({_OURS}))")
"""Names of the temporary files of `atomic_write`, and of earlier releases, whose names had less of their own."""


def sweep(directory: Path) -> None:
    """Delete the temporary files that killed processes have left in a directory and below it; those in use stay."""
    for path in directory.rglob(".*"):
        if _TEMPORARY.fullmatch(path.name) and path.is_file() and not path.is_symlink() and _is_abandoned(path):
            path.unlink(missing_ok=True)


@contextmanager
def _locked(temporary: Path) -> Iterator[None]:
    """Make the file and hold its lock, where the file system has locks."""
    descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _is_abandoned(temporary: Path) -> bool:
    try:
        descriptor = os.open(temporary, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)


def sync(path: Path) -> None:
    """Wait until a file's bytes, or a directory's names, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def writer_of(out: Path, *, argument: str = "run", wait: bool = False) -> WriterLock:
    """The lock on a directory that is replaced as a whole, and so has it beside it; see `WriterLock`."""
    return WriterLock(out.with_name(f".{out.name}.lock"), out, argument=argument, wait=wait)


@contextmanager
def replacing(out: Path, lock: WriterLock) -> Iterator[Path]:
    """Yield an empty hidden directory beside ``out`` that takes its place, in one step, when the block succeeds.

    What killed writers have left is deleted first.

    Args:
        out: the directory to make or replace.
        lock: its `writer_of`, held.

    Raises:
        UserError: the directory that it is in was removed in the meantime, or the disk is full.
    """
    _sweep_partial(out)
    partial = out.with_name(f".{out.name}.{secrets.token_hex(4)}.partial")
    try:
        with full_disk_in_words(out.parent):
            partial.mkdir()
            with lock.while_in_place():
                yield partial
            replace_directory(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def whole_directory(out: Path, *, argument: str = "run") -> Iterator[Path]:
    """`replacing` under a lock of its own: one process at a time writes an ``out``.

    Args:
        out: the directory to make or replace.
        argument: the argument that named it, for the error.

    Raises:
        UserError: another process is writing it, its place was removed in the meantime, or the disk is full.
    """
    with writer_of(out, argument=argument) as lock, replacing(out, lock) as partial:
        yield partial


def _sweep_partial(out: Path) -> None:
    """Delete what killed writers, of earlier releases too, have left of a directory, or put the old one back."""
    retired = out.with_name(f".{out.name}.retired")
    if retired.is_dir() and not out.exists():  # killed between the two renames of `replace_directory`
        retired.rename(out)
    partial = re.compile(rf"\.{re.escape(out.name)}(\.[0-9a-f]{{8}}\.partial)?")
    for path in out.parent.glob(".*"):
        if partial.fullmatch(path.name) and path.is_dir():
            shutil.rmtree(path, ignore_errors=True)


def replace_directory(new: Path, old: Path) -> None:
    """Let ``new`` take the place of ``old``, which may not exist.

    Where the system can exchange two directories (Linux, on most file systems), a kill at any moment leaves the one or
    the other. Elsewhere it takes two renames, and `whole_directory` puts the old one back after a kill between them.
    """
    retired = old.with_name(f".{old.name}.retired")
    if old.exists() and not _exchange(new, old):
        shutil.rmtree(retired, ignore_errors=True)
        old.rename(retired)
    if not old.exists():
        new.rename(old)
    sync(old.parent)
    for rest in (new, retired):
        shutil.rmtree(rest, ignore_errors=True)


_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
_CANNOT_EXCHANGE = (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP)


def _exchange(one: Path, other: Path) -> bool:
    """Let two directories change places in one step; False where the system cannot."""
    if not hasattr(library := ctypes.CDLL(None, use_errno=True), "renameat2"):
        return False
    names = os.fsencode(one), os.fsencode(other)
    if library.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in _CANNOT_EXCHANGE:
        return False
    raise OSError(code, os.strerror(code), str(other))


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FULL_WORDS = (
    *(f"(os {word} {code})" for code in _FULL for word in ("error", "code")),  # safetensors, by release
    "No space left",
    " requested and ",  # NumPy: as many items were to be written, and as many could be
    "PytorchStreamWriter failed",
    "iostream error",
)
"""How libraries that hide the number of the error say that a disk is full."""


def is_full(error: BaseException | None) -> bool:
    """Whether an error, or one that it came from, says that the disk or a quota is full."""
    while error is not None:
        if getattr(error, "errno", None) in _FULL or any(words in str(error) for words in _FULL_WORDS):
            return True
        error = error.__cause__ or error.__context__
    return False


@contextmanager
def full_disk_in_words(place: Path | None = None) -> Iterator[None]:
    """Within this block a full disk is the user's to mend, as a `UserError`.

    Args:
        place: what is written; None where it is not known.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if not is_full(error):
            raise
        where = f"the disk of {place} is full" if place is not None else "a disk is full"
        raise UserError(f"{where}; what was finished before is kept. Make room, and type the command again.") from error


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
    except UserError:
        raise
    except Exception as error:
        if not isinstance(error, OSError) and not is_full(error):
            raise
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
