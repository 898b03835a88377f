"""`train.py pair`: the two members of a pair as two `fit` processes.

Two processes rather than two fits in one: a crash of one leaves the other, each is resumed by itself, and
each is the same command that torchrun or SLURM would run.
"""

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock, Thread
from time import monotonic
from types import FrameType
from typing import IO, NoReturn

from memlight.arguments import values_of
from memlight.errors import UserError
from memlight.launch import launch
from memlight.rundir import RunDir
from memlight.sweep import default_run, sweep_point, without_sweep

MEMBERS = ("candidate", "independent")

PATIENCE = 5.0
"""Seconds that members have to end by themselves after a ctrl-C."""

_Process = subprocess.Popen[str]


def train_pair(argv: Sequence[str]) -> int:
    """Train both members, one after the other or side by side; every other flag goes to `fit`.

    Returns:
        0, or the exit status of the first member that failed; 130 after ctrl-C, which ends both.

    Raises:
        UserError: for flags that make no sense for a pair, before anything is started.
    """
    parser = argparse.ArgumentParser(
        prog="train.py pair",
        usage="train.py pair [-h] [--parallel] [--run DIR] [options of train.py fit]",
        description="Train a candidate and an independent encoder into one run directory. A finished member is "
        "kept, an interrupted one resumes. All other options are those of `train.py fit` and are passed on: "
        "`train.py fit --help` lists them.",
        allow_abbrev=False,
    )
    parser.add_argument("--parallel", action="store_true", help="train both at once, on disjoint halves of the GPUs")
    own, passed = parser.parse_known_args(argv)
    if values_of(passed, "--data.role", "--data.init_args.role"):
        raise UserError("--data.role: `pair` trains both roles; use `train.py fit --data.role ...` for one.")
    if values_of(passed, "--ckpt_path"):
        raise UserError("--ckpt_path: `pair` resumes each member from its own checkpoints/last.ckpt by itself.")
    if any(word.partition("=")[0] == "--print_config" for word in passed):
        from memlight.training import run

        run(["fit", *passed])
    if (here := launch()) is not None and here.processes > 1:
        raise UserError(
            f"pair: torchrun or srun started it {here.processes} times; start `train.py fit --data.role candidate` so, "
            "then `--data.role independent`, each with --resume true."
        )
    configs = values_of(passed, "--config", "-c")
    if sweep_point() and configs and not values_of(passed, "--run"):
        passed += ["--run", str(default_run(configs[-1]))]
    commands = {
        role: [sys.executable, "-m", "memlight.cli", "fit", *passed, "--data.role", role, "--resume", "true"]
        for role in MEMBERS
    }
    environment = _environment()

    def train() -> int:
        if own.parallel:
            shares = _halves(environment, passed)
            return _side_by_side({role: (commands[role], environment | shares[role]) for role in MEMBERS})
        return _in_turn([commands[role] for role in MEMBERS], environment)

    try:
        return _for_sweep(train, passed) if sweep_point() else train()
    except KeyboardInterrupt:  # the members have said so
        return 130


def _for_sweep(train: Callable[[], int], passed: Sequence[str]) -> int:
    """Train both members as a point of a sweep, with a W&B run that the agent sees; the members do not know of it."""
    runs, kinds = values_of(passed, "--run"), values_of(passed, "--logger")
    if not runs or kinds[-1:] == ["csv"]:
        return train()
    from memlight.logs import sweep_run

    return sweep_run("wandb-online" if kinds[-1:] == ["wandb-online"] else "wandb", RunDir(Path(runs[-1])), train)


def _in_turn(commands: Sequence[Sequence[str]], environment: dict[str, str]) -> int:
    for command in commands:
        with _stopped_with_us() as processes:
            processes.append(subprocess.Popen(command, env=environment, text=True))
            if status := processes[0].wait():
                return status
    return 0


def _side_by_side(members: dict[str, tuple[list[str], dict[str, str]]]) -> int:
    """Run all at once, every line of theirs behind the member's name; what both end with is said once.

    One that fails leaves the other.
    """
    lock = Lock()
    last_words: set[str] = set()

    def relay(role: str, source: IO[str], target: IO[str]) -> None:
        for line in source:
            with lock:
                if not line.startswith(("error: ", "interrupted")):
                    target.write(f"{role:11} | {line}")
                elif line not in last_words:
                    target.write(line)
                    last_words.add(line)
                target.flush()

    with _stopped_with_us() as processes:
        threads = []
        for role, (command, environment) in members.items():
            process = subprocess.Popen(
                command,
                env=environment | {"PYTHONUNBUFFERED": "1"},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
            )
            processes.append(process)
            for source, target in ((process.stdout, sys.stdout), (process.stderr, sys.stderr)):
                assert source is not None
                threads.append(Thread(target=relay, args=(role, source, target), daemon=True))
                threads[-1].start()
        statuses = [process.wait() for process in processes]
        for thread in threads:
            thread.join()
    failed = {role: status for role, status in zip(members, statuses, strict=True) if status}
    if len(failed) == 1:
        print(
            f"{next(iter(failed))} failed; the same command trains it again and leaves the other alone.",
            file=sys.stderr,
        )
    return next(iter(failed.values()), 0)


@contextmanager
def _stopped_with_us() -> Iterator[list[_Process]]:
    """A list for started processes: when this one is interrupted or terminated, they are too."""

    def terminate(number: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    processes: list[_Process] = []
    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield processes
    except BaseException:
        _stop(processes)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _stop(processes: Sequence[_Process]) -> None:
    """Terminate what still runs (a terminal's ctrl-C has reached it already); kill what does not end in a minute."""
    for patience, number in ((PATIENCE, signal.SIGTERM), (60.0, signal.SIGKILL)):
        deadline = monotonic() + patience
        for process in processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - monotonic()))
        for process in processes:
            if process.poll() is None:
                process.send_signal(number)


def _environment() -> dict[str, str]:
    """This process's, in which `memlight` is found from any directory, and no sweep."""
    root = str(Path(__file__).resolve().parent.parent)
    return dict(
        without_sweep(os.environ), PYTHONPATH=os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    )


def _halves(environment: dict[str, str], passed: Sequence[str]) -> dict[str, dict[str, str]]:
    """What each member's environment has of its own: its half of the GPUs, or of the processor's cores.

    Raises:
        UserError: there is one GPU only, or more are asked for than half of them.
    """
    import torch

    count = 0 if values_of(passed, "--trainer.accelerator")[-1:] == ["cpu"] else torch.cuda.device_count()
    if count == 0:
        threads = max(1, torch.get_num_threads() // 2)
        return {role: {"OMP_NUM_THREADS": str(threads)} for role in MEMBERS}
    if count == 1:
        raise UserError("--parallel: needs at least two GPUs, here is 1; leave it out to train one after the other.")
    half = count // 2
    for devices in values_of(passed, "--trainer.devices")[-1:]:
        if devices.isdigit() and int(devices) > half:
            raise UserError(f"--trainer.devices {devices}: with --parallel each member has {half} of the {count} GPUs.")
    visible = environment.get("CUDA_VISIBLE_DEVICES", "").split(",")
    names = visible if len(visible) == count else [str(index) for index in range(count)]
    shares = (names[:half], names[half : 2 * half])
    return {role: {"CUDA_VISIBLE_DEVICES": ",".join(share)} for role, share in zip(MEMBERS, shares, strict=True)}
