"""Trainings as processes of their own: one after the other, or side by side on disjoint devices.

Processes rather than fits in one: a crash of one leaves the others, each is resumed by itself, and each is the same
command that torchrun or SLURM would run.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import SimpleQueue
from threading import Lock, Thread
from time import monotonic
from typing import IO

import memlight
from memlight.endings import PARENT, Terminated, told_when_terminated
from memlight.errors import UserError
from memlight.runs.sweep import without_sweep

PATIENCE = 5.0
"""Seconds that processes have to end by themselves after a ctrl-C."""

Environment = dict[str, str]
_Process = subprocess.Popen[str]


def fit_command(flags: Sequence[str]) -> list[str]:
    """`train.py fit` with these flags; it goes on where it was interrupted, and leaves a finished member alone."""
    return [sys.executable, "-m", "memlight.cli", "fit", *flags, "--resume", "true"]


def own_environment() -> Environment:
    """This process's, in which `memlight` is found from any directory, and no sweep; whoever has it ends with us."""
    root = str(Path(memlight.__file__).resolve().parent.parent)
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    return {**without_sweep(os.environ), "PYTHONPATH": path, PARENT: str(os.getpid())}


def in_turn(commands: Sequence[Sequence[str]], environment: Environment) -> int:
    """Run one after the other, up to the first that fails.

    Returns:
        0, or the exit status of the one that failed.
    """
    for command in commands:
        with _stopped_with_us() as processes:
            processes.append(subprocess.Popen(command, env=environment, text=True))
            if status := processes[0].wait():
                return status
    return 0


def side_by_side(
    commands: Mapping[str, Sequence[str]], shares: Sequence[Mapping[str, str]], environment: Environment
) -> int:
    """Run as many at once as there are shares, every line of theirs behind its name; one that fails leaves the others.

    A last line that several end with is said once.

    Args:
        commands: by name, in the order in which they are started.
        shares: what the environment of one process at a time has of its own; see `shares_of_processors`.
        environment: what all have in common.

    Returns:
        0, or the exit status of the first in ``commands`` that failed.
    """
    lock = Lock()
    last_words: set[str] = set()
    width = max(map(len, commands))

    def relay(name: str, source: IO[str], target: IO[str]) -> None:
        with source:
            for line in source:
                with lock:
                    if not line.startswith(("error: ", "interrupted", "terminated")):
                        target.write(f"{name:{width}} | {line}")
                    elif line not in last_words:
                        target.write(line)
                        last_words.add(line)
                    target.flush()

    ended: SimpleQueue[tuple[str, Mapping[str, str], int]] = SimpleQueue()
    waiting, free = list(commands), list(shares)
    threads: list[Thread] = []
    statuses: dict[str, int] = {}
    with _heard(threads), _stopped_with_us() as processes:
        while len(statuses) < len(commands):
            while waiting and free:
                name, share = waiting.pop(0), free.pop(0)
                process = subprocess.Popen(
                    commands[name],
                    env={**environment, **share, "PYTHONUNBUFFERED": "1"},
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                    errors="replace",
                )
                processes.append(process)
                for source, target in ((process.stdout, sys.stdout), (process.stderr, sys.stderr)):
                    assert source is not None
                    threads.append(Thread(target=relay, args=(name, source, target), daemon=True))
                    threads[-1].start()
                Thread(target=_report_end, args=(name, share, process, ended), daemon=True).start()
            name, share, statuses[name] = ended.get()
            free.append(share)
    failed = [name for name in commands if statuses[name]]
    if 0 < len(failed) < len(commands):
        again, rest = ("it", "other") if len(commands) == 2 else ("them" if len(failed) > 1 else "it", "others")
        print(
            f"{', '.join(failed)} failed; the same command trains {again} again and leaves the {rest} alone.",
            file=sys.stderr,
        )
    return statuses[failed[0]] if failed else 0


def shares_of_processors(count: int, environment: Environment, *, gpus: int) -> list[Environment]:
    """Equal shares of the GPUs, or of the processor's cores where there are none.

    Args:
        count: how many shares; no more than there are GPUs.
        environment: says which GPUs are visible.
        gpus: how many GPUs there are to share; 0 shares the cores.

    Returns:
        What the environment of each process has of its own.
    """
    if gpus == 0:
        import torch

        return [{"OMP_NUM_THREADS": str(max(1, torch.get_num_threads() // count))}] * count
    each = gpus // count
    visible = environment.get("CUDA_VISIBLE_DEVICES", "").split(",")
    names = visible if len(visible) == gpus else [str(index) for index in range(gpus)]
    return [{"CUDA_VISIBLE_DEVICES": ",".join(names[i * each : (i + 1) * each])} for i in range(count)]


def refuse_launchers(command: str, instead: str) -> None:
    """Refuse to start processes within each of several processes.

    Args:
        command: what the user typed.
        instead: what to do.

    Raises:
        UserError: torchrun or srun started this process.
    """
    from memlight.runs.launch import launch

    if (here := launch()) is not None and here.processes > 1:
        raise UserError(f"{command}: torchrun or srun started it {here.processes} times; {instead}")


def _report_end(
    name: str,
    share: Mapping[str, str],
    process: _Process,
    ended: "SimpleQueue[tuple[str, Mapping[str, str], int]]",
) -> None:
    ended.put((name, share, process.wait()))


@contextmanager
def _heard(threads: Sequence[Thread]) -> Iterator[None]:
    """Whatever ends the block, what the processes said last is printed: their pipes close when they end."""
    try:
        yield
    finally:
        for thread in threads:
            thread.join()


@contextmanager
def _stopped_with_us() -> Iterator[list[_Process]]:
    """A list for started processes: when this one is interrupted or terminated, they are too, and they say so."""
    processes: list[_Process] = []
    with told_when_terminated():
        try:
            yield processes
        except KeyboardInterrupt:
            _stop(processes, PATIENCE)
            raise
        except Terminated as terminated:
            _stop(processes, 0.0)
            terminated.said = any(process.returncode == 128 + signal.SIGTERM for process in processes)
            raise
        except BaseException:
            _stop(processes, 0.0)
            raise


def _stop(processes: Sequence[_Process], patience: float) -> None:
    """Terminate what still runs, and kill what does not end in a minute.

    Args:
        processes: that were started.
        patience: seconds to wait before; a terminal's ctrl-C has reached them already.
    """
    for wait, number in ((patience, signal.SIGTERM), (60.0, signal.SIGKILL)):
        deadline = monotonic() + wait
        for process in processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - monotonic()))
        for process in processes:
            if process.poll() is None:
                process.send_signal(number)
