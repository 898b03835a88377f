"""How a process ends: on SIGTERM with a line, and when the process that started it is gone.

Standard library only: it is the first that a started process runs.
"""

import atexit
import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Final, NoReturn

PARENT: Final = "MEMLIGHT_PARENT"
"""Environment variable: the process whose end is the end of those that it starts."""

_PR_SET_PDEATHSIG = 1


class Terminated(SystemExit):
    """SIGTERM has come; exit status 143.

    Attributes:
        said: whether somebody has printed that already.
    """

    def __init__(self) -> None:
        super().__init__(128 + signal.SIGTERM)
        self.said = False


@contextmanager
def told_when_terminated() -> Iterator[None]:
    """SIGTERM raises `Terminated`, wherever the process is; several processes of one training end with their step.

    Everything that is written here is whole or not there, so no moment is a bad one. Lightning, which has a handler
    of its own while it trains, calls this one too.
    """

    def terminate(number: int, frame: FrameType | None) -> None:
        distributed = sys.modules.get("torch.distributed")
        if distributed is None or not distributed.is_available() or not distributed.is_initialized():
            raise Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def children_end_with_us() -> Iterator[None]:
    """Processes that are started within it and call `end_with_parent` end when this one does."""
    before = os.environ.get(PARENT)
    os.environ[PARENT] = str(os.getpid())
    try:
        yield
    finally:
        os.environ.pop(PARENT)
        if before is not None:
            os.environ[PARENT] = before


def end_with_parent() -> None:
    """Have the kernel terminate this process when the one that started it dies, however it dies (Linux; else nothing).

    A further process of a training, which writes nothing, is killed: it may wait for the dead one for ever.
    """
    parent = os.environ.get(PARENT)
    if sys.platform != "linux" or parent is None or not parent.isdigit():
        return
    number = signal.SIGKILL if os.environ.get("LOCAL_RANK", "0") != "0" else signal.SIGTERM
    if os.getppid() == int(parent):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
    if os.getppid() != int(parent) and not _runs(int(parent)):  # it died before the kernel was told
        os.kill(os.getpid(), number)


def leave(status: int) -> NoReturn:
    """End this process: a terminated one at once, when its exit handlers have run.

    To take apart what torch has loaded costs an exit a second of processor time or more, and whoever terminates a
    process waits for it.
    """
    if status != 128 + signal.SIGTERM:
        raise SystemExit(status)
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # nobody reads it any more
            stream.flush()
    os._exit(status)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
