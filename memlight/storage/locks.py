"""One writer at a time, wherever it runs: a lock that the kernel releases at any death of its holder."""

import errno
import fcntl
import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from memlight.errors import UserError

_WITHOUT_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
"""What file systems answer that have no locks."""

_NETWORK = ("nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs")
"""File systems that several machines may write to at once."""

_KEPT_LOCAL = ("local_lock=all", "local_lock=flock", "nolock", "nobrl")
"""Options of a mount with which another machine does not see this one's locks."""

_held: set[int] = set()
"""Descriptors of the locks of this process."""


class WriterLock:
    """Within this context no other process has the same lock, on this machine or another.

    ``flock`` is held on a small file that says who holds it. It is removed at the end; where its holder was killed it
    stays, is free at once, and is taken by the next. Over NFS the lock holds between machines unless the mount keeps
    locks local; then, and on file systems without locks, one line on standard error says so and the work goes on.

    Args:
        path: the file, in a directory that is made if it is not there, and removed again if nothing was written to it.
        place: what is written under the lock, for the error.
        argument: the argument that named it.
        wait: wait for another holder to end rather than refuse, as for what a training writes at its end.
    """

    def __init__(self, path: Path, place: Path, *, argument: str = "run", wait: bool = False) -> None:
        self._path, self._place, self._argument, self._wait = path, place, argument, wait
        self._descriptor = -1
        self._made: list[Path] = []

    def __enter__(self) -> Self:
        """Take it.

        Raises:
            UserError: another process has it; says which, on which machine, and since when.
        """
        missing = [path for path in self._path.parents if not path.exists()]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._made = missing
        try:
            while not self._take():
                pass
        except BaseException:
            self._remove_made()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_at_its_place():
            self._path.unlink()  # before it is released, so that nobody can have it by then
        else:
            self._made = list(self._path.parents)[:2]  # which writers may have made again
        self._close()
        self._remove_made()

    def require_in_place(self) -> None:
        """Refuse to go on where the directory was removed, or moved, since the lock was taken.

        Raises:
            UserError: it was.
        """
        if not self._is_at_its_place():
            why = "was removed or moved while it was being written, so what would be written now is not whole"
            raise UserError(self._argument, self._place, why, "type the command again")

    @contextmanager
    def while_in_place(self) -> Iterator[None]:
        """`require_in_place` when the block ends, and in place of an error that comes of it within the block."""
        try:
            yield
        except Exception:
            self.require_in_place()
            raise
        self.require_in_place()

    def _take(self) -> bool:
        """Lock the file; False where its last holder has removed it in the meantime."""
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        _held.add(self._descriptor)
        try:
            self._lock()
        except BaseException:
            self._close()
            raise
        if self._is_at_its_place():
            return True
        self._close()
        return False

    def _lock(self) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = _holder(self._descriptor)
            if not self._wait:
                why = f"is being written by {holder}"
                raise UserError(self._argument, self._place, why, "wait until it has ended, or end it") from error
            print(f"{self._place}: waiting for {holder} to end", file=sys.stderr, flush=True)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in _WITHOUT_LOCKS:
                raise
            words = f"has no locks ({error.strerror}); start one command at a time that writes there"
            print(f"warning: {self._path.parent} {words}", file=sys.stderr)
        else:
            _say_if_kept_local(self._path)
        _sign(self._descriptor)

    def _is_at_its_place(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._descriptor), self._path.stat())
        except OSError:
            return False

    def _close(self) -> None:
        _held.discard(self._descriptor)
        os.close(self._descriptor)

    def _remove_made(self) -> None:
        with suppress(OSError):  # not empty
            for directory in self._made:
                directory.rmdir()


def _forget() -> None:
    """A process that was forked, as a worker that reads images is, does not hold its parent's locks."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_forget)


def _sign(descriptor: int) -> None:
    """Write down who holds the lock, for the others' error; on a full disk they do without."""
    now = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
    line = json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "since": now})
    with suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, line.encode(), 0)


def _holder(descriptor: int) -> str:
    try:
        holder = json.loads(os.pread(descriptor, 1000, 0))
        return f"process {holder['pid']} on {holder['host']} since {holder['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def _say_if_kept_local(path: Path) -> None:
    kind, options = _mount_of(path)
    if kind in _NETWORK and any(option in _KEPT_LOCAL for option in options):
        words = f"is on {kind} that keeps locks to this machine, so that a command of another machine is not noticed"
        print(f"warning: {path.parent} {words}", file=sys.stderr)


def _mount_of(path: Path) -> tuple[str, list[str]]:
    """Kind and options of the file system that a path lies on; empty where the system does not say."""
    real = str(path.parent.resolve())
    below = [fields for fields in _mounts() if _lies_below(real, fields[1])]
    found = max(below, key=lambda fields: len(fields[1]), default=["", "", "", ""])
    return found[2], found[3].split(",")


def _mounts() -> list[list[str]]:
    """Device, place, kind and options of every file system; none where the system does not say."""
    try:
        lines = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    return [line.split() for line in lines]


def _lies_below(path: str, mount: str) -> bool:
    mount = mount.replace("\\040", " ")
    return path == mount or path.startswith(mount.rstrip("/") + "/")
