"""Commands as forked children of a process that has imported everything once, killed where they write."""

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Command = Callable[[], int]

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink", "shutil.rmtree")
LIMIT_SECONDS = 300.0
"""A command that takes longer hangs."""


class _Moments:
    """Counts every change of a name or opening for writing below a directory, and kills this process at one of them.

    Python's audit events tell of them before they happen.
    """

    def __init__(self, below: Path, kill_at: int | None, count: Path | None) -> None:
        self._below, self._kill_at, self._count = f"{below.resolve()}/", kill_at, count
        self._seen = 0

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if event not in ("open", *_CHANGES) or not isinstance(args[0], str | os.PathLike):
            return
        if event == "open" and not (args[2] or 0) & _WRITES:
            return
        if not os.path.abspath(os.fspath(args[0])).startswith(self._below):
            return
        self._seen += 1
        if self._seen == self._kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def note(self) -> None:
        """Write down how many there were."""
        if self._count is not None:
            self._count.write_text(str(self._seen))


def start(command: Command, place: Path, log: Path, *, kill_at: int | None = None, count: Path | None = None) -> int:
    """Fork a child that runs a command in a directory of its own process group; gives its process id.

    Args:
        command: gives an exit status.
        place: the directory that it stands in, below which its changes are counted.
        log: a file that takes what it prints.
        kill_at: the change before which it is killed, counted from 1; None lets it live.
        count: a file that takes the number of changes.
    """
    if child := os.fork():
        return child
    status = 99
    try:
        os.setpgid(0, 0)
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(descriptor, 1), os.dup2(descriptor, 2)
        os.chdir(place)
        moments = _Moments(place, kill_at, count)
        sys.addaudithook(moments)
        try:
            status = command()
        except SystemExit as ended:
            status = ended.code if isinstance(ended.code, int) else 1
        except BaseException:
            traceback.print_exc()
        moments.note()
        sys.stdout.flush(), sys.stderr.flush()
    finally:
        os._exit(status)


def wait(child: int) -> int:
    """Exit status of a child, negative for a signal; 98 where it had to be ended because it hangs."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return 98


def call(command: Command, place: Path, log: Path, **options: Any) -> int:
    """`start` and `wait`."""
    return wait(start(command, place, log, **options))


def side_by_side(trials: Sequence[Callable[[], str]], at_once: int, scratch: Path) -> list[str]:
    """Run trials in forked processes, some at a time; gives what each says, which is nothing if all is well."""
    waiting, running, said = list(enumerate(trials)), {}, [""] * len(trials)
    while waiting or running:
        while waiting and len(running) < at_once:
            number, trial = waiting.pop(0)
            answer = scratch / f"answer-{number}"

            def tell(trial: Callable[[], str] = trial, answer: Path = answer) -> int:
                answer.write_text(trial())
                return 0

            running[start(tell, scratch, scratch / f"trial-{number}.log")] = (number, answer)
        child, status = os.wait()
        if child not in running:
            continue
        number, answer = running.pop(child)
        failed = f"the trial itself ended with {os.waitstatus_to_exitcode(status)}; see trial-{number}.log"
        said[number] = answer.read_text() if answer.exists() else failed
    return said
