"""The campaigns of the soak: each tries many times, and says of every failure what it was."""

import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from memlight.analyze import main as analyze
from tests.fuzz.campaign import fuzz
from tests.soak.children import call, side_by_side, start, wait
from tests.soak.commands import CASES, CSV, SHORT, Case
from tests.soak.trees import differences
from tests.tiny_pair import FLAGS, ROOT, environment

AT_ONCE = 2
FULL_AT = (0.0, 0.1, 0.3, 0.6, 0.9)
"""Free room of the full disks, as shares of what a command writes."""


@dataclass
class Tried:
    """What a campaign found.

    Attributes:
        name: of the campaign.
        count: how often it tried.
        failures: what went wrong, one line each.
        seconds: how long it took.
        note: what was left out, or measured besides.
    """

    name: str
    count: int
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0
    note: str = ""


@dataclass(frozen=True)
class Place:
    """Where a soak works.

    Attributes:
        root: a directory of its own.
        points: kills of each command.
        seed: of random moments.
    """

    root: Path
    points: int
    seed: int

    @property
    def bases(self) -> Path:
        """What commands need before they begin."""
        return self.root / "bases"

    def fresh(self, *names: str) -> Path:
        """An empty directory."""
        place = self.root.joinpath(*names)
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        return place

    def reference(self, name: str, case: Case, which: str = "reference") -> tuple[Path, int]:
        """What a command leaves that nothing disturbs, and how many changes it makes on the way."""
        done = case.prepare(self.bases, self.root / name / which)
        count = self.root / name / f"{which}-count"
        status = call(case.run, done, self.root / name / f"{which}.log", count=count)
        if status:
            raise SystemExit(f"{name} alone ends with {status}; see {self.root / name / which}.log")
        return done, int(count.read_text())


def kills(place: Place, name: str) -> Tried:
    """Kill a command before a change of the disk, at `Place.points` places over its course, and type it again."""
    case = CASES[name]
    done, changes = place.reference(name, case)
    points = sorted({1 + number * changes // place.points for number in range(place.points)})

    def trial(point: int) -> str:
        here = case.prepare(place.bases, place.root / name / f"killed-{point}")
        log = here.with_suffix(".log")
        statuses = call(case.run, here, log, kill_at=point), call(case.run, here, log)
        found = differences(done, here)
        if statuses != (-signal.SIGKILL, 0) or found:
            return f"{name} killed at change {point} of {changes}: {statuses}, {found[:4]}; see {log}"
        shutil.rmtree(here)
        return ""

    said = side_by_side([partial(trial, point) for point in points], AT_ONCE, place.fresh(name, "trials"))
    return Tried(f"kill {name}", len(points), [line for line in said if line])


def launched_pairs(place: Place) -> Tried:
    """Kill `train.py pair`, alone or with its members, at random moments of its course, and type it again."""
    flags = [*FLAGS, *SHORT, "--run=run", "--logger=wandb"]
    command = [sys.executable, str(ROOT / "train.py"), "pair", *flags]
    settings = {**environment(), "WANDB_SILENT": "true"}

    def launch(here: Path) -> subprocess.Popen[bytes]:
        with (here / "log").open("ab") as log:
            return subprocess.Popen(command, cwd=here, env=settings, stdout=log, stderr=log, start_new_session=True)

    done = place.fresh("pair", "reference")
    begun = time.monotonic()
    if launch(done).wait():
        raise SystemExit(f"train.py pair alone fails; see {done / 'log'}")
    seconds = time.monotonic() - begun
    moments = random.Random(place.seed)

    def trial(number: int, moment: float) -> str:
        here = place.fresh("pair", f"killed-{number}")
        process = launch(here)
        try:
            process.wait(moment)
        except subprocess.TimeoutExpired:
            (os.killpg if number % 2 else os.kill)(process.pid, signal.SIGKILL)
        killed = process.wait()
        for _ in range(100):  # a member that is still ending holds its lock
            again = launch(here).wait()
            if again != 2 or "is being written by" not in (here / "log").read_text().splitlines()[-1]:
                break
            time.sleep(0.2)
        found = differences(done / "run", here / "run")
        if again or found:
            return f"pair killed after {moment:.1f} s: {killed}, then {again}, {found[:4]}; see {here / 'log'}"
        shutil.rmtree(here)
        return ""

    trials = [partial(trial, number, moments.uniform(0.0, seconds)) for number in range(place.points)]
    said = side_by_side(trials, AT_ONCE, place.fresh("pair", "trials"))
    return Tried("kill pair (launcher, W&B)", len(trials), [line for line in said if line])


def two_at_once(place: Place, name: str, trials: int = 6) -> Tried:
    """Start a command twice, with other flags where it has some: what is left is of one of them, whole."""
    case = CASES[name]
    other = Case(case.other or case.run, case.needs)
    references = [place.reference(name, one, f"alone-{which}")[0] for which, one in (("a", case), ("b", other))]
    moments, tried, refused = random.Random(place.seed), Tried(f"two at once: {name}", trials), 0
    for number in range(trials):
        here = case.prepare(place.bases, place.root / name / f"both-{number}")
        logs = [here.with_name(f"{here.name}-{which}.log") for which in "ab"]
        first = start(case.run, here, logs[0])
        time.sleep(moments.uniform(0.0, 0.5))
        second = start(other.run, here, logs[1])
        statuses = wait(first), wait(second)
        refused += 2 in statuses
        for status, log in zip(statuses, logs, strict=True):
            words = log.read_text().splitlines()[-1:] if status else []
            if status not in (0, 2) or (words and "is being written by process" not in words[0]):
                tried.failures.append(f"{name}, trial {number}: exit status {status}; see {log}")
        found = [differences(reference, here) for reference in references]
        if 0 not in statuses or all(found):
            tried.failures.append(f"{name}, trial {number}: {statuses}, {min(found, key=len)[:4]}")
        else:
            shutil.rmtree(here)
    tried.note = f"one was refused {refused} times; else one came after the other"
    return tried


def full_disks(place: Place, name: str) -> Tried:
    """Give a command less room than it needs: it says so in one line, and once there is room it ends well."""
    case, tried = CASES[name], Tried(f"full disk: {name}", 0)
    done, _ = place.reference(name, case)
    mount = place.fresh(name, "disk")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=900m", "tmpfs", mount], capture_output=True).returncode:
        tried.note = "not tried: it takes the right to mount a small disk"
        return tried
    try:
        before = _kilobytes(case.prepare(place.bases, mount / "run-here"))
        grows = max(8, _kilobytes(done) - before)
        for share in FULL_AT:
            _resize(mount, 900_000)
            here = case.prepare(place.bases, mount / "run-here")
            log = place.root / name / f"full-{share}.log"
            _resize(mount, _kilobytes(mount) + int(share * grows) + 4)
            status = call(case.run, here, log)
            words = log.read_text()
            tried.count += 1
            if status == 0 and share > 0:
                continue  # what it writes besides was less than thought
            if status != 2 or "Traceback" in words or not words.splitlines()[-1].startswith("error: "):
                tried.failures.append(f"{name} with {share:.0%} of its room: exit status {status}; see {log}")
            _resize(mount, 900_000)
            again, found = call(case.run, here, log), differences(done, here)
            if again or found:
                tried.failures.append(f"{name} again after {share:.0%} of its room: {again}, {found[:4]}; see {log}")
    finally:
        subprocess.run(["umount", "-l", mount], check=False)
    return tried


def _kilobytes(path: Path) -> int:
    return int(subprocess.run(["du", "-sk", path], capture_output=True, text=True, check=True).stdout.split()[0])


def _resize(mount: Path, kilobytes: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={kilobytes}k", mount], check=True)


def rounds(place: Place, times: int = 20) -> Tried:
    """The same analysis again and again in one process: neither memory nor open files nor threads may grow."""
    here, answer = CASES["layermem"].prepare(place.bases, place.root / "rounds"), place.root / "rounds.txt"

    def state() -> tuple[int, int, int]:
        status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        return int(status["VmRSS"].split()[0]), len(os.listdir("/proc/self/fd")), int(status["Threads"])

    def again_and_again() -> int:
        states = []
        for _ in range(times):
            if analyze(["layermem", "--run=run", "--views=2", *CSV]):
                return 1
            states.append(state())
        early, late = states[times // 4], states[-1]
        answer.write_text(f"{(late[0] - early[0]) / 1024:.1f} {late[1] - early[1]} {late[2] - early[2]}")
        return 0

    status = call(again_and_again, here, place.root / "rounds.log")
    if status:
        return Tried("rounds", times, [f"ended with {status}; see {place.root / 'rounds.log'}"])
    megabytes, files, threads = answer.read_text().split()
    grown = float(megabytes) > 20 or int(files) > 0 or int(threads) > 0
    words = f"{megabytes} MiB, {files} files, {threads} threads more than after {times // 4} rounds"
    return Tried("rounds in one process", times, [words] if grown else [], note=words)


def ranks(place: Place) -> Tried:
    """The tests in which two processes give what one gives; `make slow` has those that torchrun and srun start."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-m", "ddp and not slow", "-p", "no:cacheprovider"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    words = done.stdout.strip().splitlines()[-1]
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    count = next((int(part.split()[0]) for part in words.split(", ") if part.endswith("passed")), 0)
    return Tried("ranks", count + len(failed), failed or ([words] if done.returncode else []))


def malformed(place: Place, count: int = 2000) -> Tried:
    """Mutations of valid files of every format that a command reads."""
    tried, failures = fuzz(count, place.seed)
    return Tried("malformed files", tried, [str(failure) for failure in failures])


Campaign = Callable[[Place], Tried]


def campaigns() -> dict[str, Campaign]:
    """All of them by name, in the order in which they run."""
    killed = ("repeated pairs", "unitmem", "layermem", "extract", "search", "sequence", "report")
    doubled = ("fit", "layermem", "unitmem", "extract", "search", "report", "compare")
    starved = ("fit", "layermem", "unitmem", "extract", "search", "sequence", "report", "compare")
    return {
        **{f"kill {name}": partial(kills, name=name) for name in killed},
        "kill pair": launched_pairs,
        **{f"two {name}": partial(two_at_once, name=name) for name in doubled},
        **{f"full {name}": partial(full_disks, name=name) for name in starved},
        "malformed": malformed,
        "ranks": ranks,
        "rounds": rounds,
    }


def memory_limit(gigabytes: int = 16) -> None:
    """No child may take the machine down."""
    resource.setrlimit(resource.RLIMIT_AS, (gigabytes << 30, resource.getrlimit(resource.RLIMIT_AS)[1]))
