"""Reads thousands of damaged files in child processes that are watched; `make soak` calls `fuzz`."""

import hashlib
import json
import os
import resource
import select
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from unittest.mock import patch

import torch
from matplotlib.figure import Figure

from memlight.errors import UserError
from tests.fuzz.targets import Target, make_corpus, make_targets

HANG_SECONDS = 20.0
"""A child that says nothing for so long is stuck; the slowest input takes a tenth of it on a busy machine."""

MEMORY_BYTES = 6 << 30
"""Address space that a child may take beyond what it was started with."""


@dataclass(frozen=True)
class Failure:
    """An input that was not refused in one line.

    Attributes:
        case: ``file:mutation:number``, by which it is made again.
        what: a traceback, ``hangs``, the signal that ended the process, or files that changed.
    """

    case: str
    what: str


def fuzz(count: int, seed: int, first: Sequence[str] = ()) -> tuple[int, list[Failure]]:
    """Read damaged files.

    Args:
        count: how many.
        seed: of which ones; each file and mutation is drawn by it.
        first: inputs that are tried before those, as `Failure.case` names them.

    Returns:
        How many were tried, and those that went wrong.
    """
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        make_corpus(root)
        targets = make_targets(root)
        rng = Random(seed)
        cases = [*first]
        for _ in range(count):
            name = rng.choice(sorted(targets))
            cases.append(f"{name}:{rng.choice(sorted(targets[name].mutations))}:{rng.randrange(2**32)}")
        return len(cases), list(_watched(root, targets, cases))


def _watched(root: Path, targets: dict[str, Target], cases: Sequence[str]) -> Iterator[Failure]:
    """Cases in a child; when it dies or is silent, the rest in another one."""
    at = 0
    contents = {target.file: (root / target.file).read_bytes() for target in targets.values()}
    while at < len(cases):
        reading, writing = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that there are threads: the child uses none of theirs
            child = os.fork()
        if child == 0:
            os.close(reading)
            _child(root, targets, cases[at:], writing)
        os.close(writing)
        with os.fdopen(reading, "rb") as lines:
            buffered = b""
            hangs = False
            while True:
                ready, _, _ = select.select([lines], [], [], HANG_SECONDS)
                if not ready:
                    os.kill(child, signal.SIGKILL)
                    hangs = True
                    break
                if not (more := os.read(lines.fileno(), 1 << 16)):
                    break
                buffered += more
                *whole, buffered = buffered.split(b"\n")
                for line in whole:
                    if what := json.loads(line):
                        yield Failure(cases[at], what)
                    at += 1
        _, status = os.waitpid(child, 0)
        if at < len(cases):
            code = os.waitstatus_to_exitcode(status)
            yield Failure(cases[at], f"hangs for {HANG_SECONDS:g} s" if hangs else f"ends the process ({code})")
            for file, content in contents.items():  # which the child could not put back
                (root / file).write_bytes(content)
            at += 1


def _child(root: Path, targets: dict[str, Target], cases: Sequence[str], out: int) -> None:
    """Read every case and write a line for each: what is wrong, or an empty word. Never returns."""
    try:
        torch.set_num_threads(1)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_BYTES, used + MEMORY_BYTES))
        silent = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silent, 1)
        os.dup2(silent, 2)
        warnings.simplefilter("ignore")
        with patch.object(Figure, "savefig", lambda self, to, **options: None):
            for case in cases:
                os.write(out, json.dumps(_wrong(root, targets, case)).encode() + b"\n")
    except BaseException:
        os.write(out, json.dumps("the fuzzer itself: " + traceback.format_exc()).encode() + b"\n")
    os._exit(0)


def _wrong(root: Path, targets: dict[str, Target], case: str) -> str:
    """Read one case; what is wrong with how it was read, or an empty word."""
    name, mutation, number = case.split(":")
    target = targets[name]
    path = root / target.file
    whole = path.read_bytes()
    try:
        path.write_bytes(target.mutations[mutation](whole, Random(int(number))))
        before = _files(root, path)
        try:
            target.read(root)
        except UserError as error:
            if "\n" in error.in_flags("--{}".format) or not str(error):
                return f"an error of several lines: {error}"
        except target.raises:
            pass
        except BaseException:
            return traceback.format_exc()
        changed = sorted(name for name in _files(root, path).items() ^ before.items())
        return f"changed {changed[:4]}" if changed else ""
    finally:
        path.write_bytes(whole)


def _files(root: Path, path: Path) -> dict[str, str]:
    """Hashes of the files beside one that is damaged, and of itself; pages and kept indices are made by readers."""
    made = ("report.html", "copy.npz")
    beside = [file for file in path.parent.iterdir() if file.is_file() and file.name not in made]
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in beside}


if __name__ == "__main__":
    start = time.perf_counter()
    tried, failures = fuzz(int(sys.argv[1]), int(sys.argv[2]))
    for failure in failures:
        print(f"{failure.case}\n    {failure.what.strip().splitlines()[-1] if len(sys.argv) < 4 else failure.what}")
    print(f"{tried} inputs, {len(failures)} went wrong, {time.perf_counter() - start:.0f} s")
