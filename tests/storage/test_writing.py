"""Old or new, never half: files, directories, full disks, and what killed writers leave."""

import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from memlight.errors import UserError
from memlight.storage import writing
from memlight.storage.writing import (
    atomic_write,
    full_disk_in_words,
    is_full,
    replace_directory,
    replacing,
    sweep,
    whole_directory,
    writer_of,
)


def made(place: Path, content: str) -> Path:
    place.mkdir(parents=True)
    (place / "file").write_text(content)
    return place


def tree(root: Path) -> dict[str, str]:
    return {path.relative_to(root).as_posix(): path.read_text() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("exchanges", [True, False], ids=["exchange", "two renames"])
def test_a_directory_is_replaced_or_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchanges: bool) -> None:
    if not exchanges:
        monkeypatch.setattr(writing, "_exchange", lambda one, other: False)
    elif sys.platform != "linux":
        pytest.skip("only Linux exchanges directories")
    old = tmp_path / "old"
    for content in ("first", "second"):
        replace_directory(made(tmp_path / "new", content), old)
        assert tree(tmp_path) == {"old/file": content}


def test_on_linux_the_old_or_the_new_is_there_at_every_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every call that changes names is a moment; a kill there is an exception that nothing handles."""
    if not writing._exchange(made(tmp_path / "a", ""), made(tmp_path / "b", "")):
        pytest.skip("this file system does not exchange directories")

    class Killed(BaseException):
        pass

    def dies(*_: object, **__: object) -> None:
        raise Killed

    for moment in ("_exchange", "sync", "shutil.rmtree"):
        root = tmp_path / moment
        old, new = made(root / "old", "old"), made(root / "new", "new")
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(f"memlight.storage.writing.{moment}", dies)
            replace_directory(new, old)
        assert (old / "file").read_text() in ("old", "new")


def test_two_renames_that_were_cut_are_put_back_by_the_next_writer(tmp_path: Path) -> None:
    out = tmp_path / "out"
    made(tmp_path / ".out.retired", "old")
    with whole_directory(out) as partial:
        assert tree(out) == {"file": "old"}
        (partial / "file").write_text("new")
    assert tree(tmp_path) == {"out/file": "new"}


def test_an_exception_leaves_the_old_directory_and_nothing_else(tmp_path: Path) -> None:
    out = made(tmp_path / "out", "old")
    with pytest.raises(ZeroDivisionError), whole_directory(out) as partial:
        (partial / "file").write_text("new")
        raise ZeroDivisionError
    assert tree(tmp_path) == {"out/file": "old"}


def test_two_writers_of_one_directory_are_refused_and_of_two_are_not(tmp_path: Path) -> None:
    with (
        whole_directory(tmp_path / "out"),
        whole_directory(tmp_path / "out.b"),
        pytest.raises(UserError, match=r"page=.*is being written by process"),
        whole_directory(tmp_path / "out", argument="page"),
    ):
        pass


def test_a_writer_sweeps_what_killed_ones_left_but_not_its_neighbours(tmp_path: Path) -> None:
    left = [".out.0123abcd.partial", ".out"]
    kept = [".out.b.0123abcd.partial", ".out-b.0123abcd.partial", ".out.progress", ".other"]
    for name in (*left, *kept):
        made(tmp_path / name, "")
    with writer_of(tmp_path / "out") as lock, replacing(tmp_path / "out", lock):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*kept, "out"])


def test_temporary_files_of_the_dead_are_swept_and_of_the_living_stay(tmp_path: Path) -> None:
    written_by_dead = tmp_path / "sub" / ".99-01234567.table.csv"
    made(tmp_path / "sub", "")
    for path in (written_by_dead, tmp_path / ".7.old-release.json"):
        path.write_text("half")
    kept = [".2026.backup", ".2026.notes.old", ".7", ".hidden", "7.csv"]
    for name in kept:
        (tmp_path / name).write_text("kept")
    with atomic_write(tmp_path / "sub" / "new") as living:
        sweep(tmp_path)
        assert living.exists()
        living.write_text("new")
    assert sorted(tree(tmp_path)) == [
        ".2026.backup",
        ".2026.notes.old",
        ".7",
        ".hidden",
        "7.csv",
        "sub/file",
        "sub/new",
    ]


def save_array(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.zeros(10_000))


WRITERS = {
    "text": lambda path: path.write_text("x" * 10_000),
    "torch": lambda path: torch.save({"a": torch.zeros(10_000)}, path),
    "safetensors": lambda path: save_file({"a": torch.zeros(10_000)}, path),
    "numpy": save_array,
}


@contextmanager
def small_disk() -> Iterator[None]:
    """No file may grow above 4 kB; the system says so with a number, as of a full disk or an exhausted quota."""
    handler, limits = signal.signal(signal.SIGXFSZ, signal.SIG_IGN), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("kind", WRITERS)
def test_a_full_disk_leaves_the_old_file_and_is_known_whatever_writes(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with (
        small_disk(),
        pytest.raises(UserError, match=r"disk of .* is full; what was finished before is kept"),
        full_disk_in_words(tmp_path),
        atomic_write(path) as temporary,
    ):
        WRITERS[kind](temporary)
    assert tree(tmp_path) == {"file": "old"}


def test_other_errors_are_not_a_full_disk() -> None:
    assert not is_full(ValueError("no such thing")) and not is_full(FileNotFoundError(2, "No such file"))
    with pytest.raises(ZeroDivisionError), full_disk_in_words():
        raise ZeroDivisionError


MAINS = """
import errno, os, sys
import memlight.{main} as main
def full(*args, **kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
main.{function} = full
sys.exit(main.main({argv}))
"""


@pytest.mark.parametrize(
    "where",
    [
        {"main": "analyze", "function": "run_command", "argv": ["layermem", "--run", "x"]},
        {"main": "cli", "function": "_run", "argv": ["fit"]},
    ],
    ids=["analyze.py", "train.py"],
)
def test_every_command_says_a_full_disk_in_one_line(where: dict[str, object], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MAINS.format(**where)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        cwd=tmp_path,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr
        == "error: a disk is full; what was finished before is kept. Make room, and type the command again.\n"
    )


def test_a_partial_directory_that_was_removed_is_said(tmp_path: Path) -> None:
    out = tmp_path / "run" / "analysis" / "x"
    with pytest.raises(UserError, match="was removed or moved"), whole_directory(out) as partial:
        shutil.rmtree(tmp_path / "run")
        (partial / "file").write_text("")
    assert list(tmp_path.iterdir()) == []
