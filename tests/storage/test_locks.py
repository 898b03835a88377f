"""One writer at a time: refused by name, free at any death, nothing left behind."""

import multiprocessing
import os
import shutil
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from memlight.errors import UserError
from memlight.storage import locks
from memlight.storage.locks import WriterLock

FORK = multiprocessing.get_context("fork")


def hold(path: Path, place: Path, ready: Connection) -> None:
    with WriterLock(path, place):
        ready.send(os.getpid())
        time.sleep(60)


def say_and_sleep(ready: Connection) -> None:
    ready.send(os.getpid())
    time.sleep(60)


@pytest.fixture
def holder(tmp_path: Path) -> "multiprocessing.context.ForkProcess":
    """Another process that has the lock of ``tmp_path / "run"``."""
    ready, sent = FORK.Pipe()
    process = FORK.Process(target=hold, args=(tmp_path / "run" / ".lock", tmp_path / "run", sent))
    process.start()
    assert ready.recv() == process.pid
    yield process
    process.kill()
    process.join()


def test_the_second_is_refused_and_told_who_holds_it(tmp_path: Path, holder: multiprocessing.Process) -> None:
    place = tmp_path / "run"
    with pytest.raises(UserError) as refused, WriterLock(place / ".lock", place):
        pass
    assert str(holder.pid) in str(refused.value) and os.uname().nodename in str(refused.value)
    assert "since 20" in str(refused.value) and refused.value.argument == "run"


def test_a_killed_holder_leaves_it_free(tmp_path: Path, holder: multiprocessing.Process) -> None:
    place = tmp_path / "run"
    os.kill(holder.pid or 0, signal.SIGKILL)
    holder.join()
    assert (place / ".lock").exists()
    with WriterLock(place / ".lock", place):
        pass
    assert list(place.iterdir()) == []


def test_who_waits_gets_it(tmp_path: Path, holder: multiprocessing.Process, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "run"

    def end(*_: object) -> None:
        holder.kill()

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        with WriterLock(place / ".lock", place, wait=True):
            assert not holder.is_alive()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert f"waiting for process {holder.pid}" in capsys.readouterr().err


def test_a_forked_worker_does_not_keep_its_parents_lock(tmp_path: Path) -> None:
    lock = WriterLock(tmp_path / ".lock", tmp_path)
    lock.__enter__()
    ready, sent = FORK.Pipe()
    worker = FORK.Process(target=say_and_sleep, args=(sent,))
    worker.start()
    ready.recv()
    os.close(lock._descriptor)  # as the kernel does at any death of this process
    locks._held.discard(lock._descriptor)
    try:
        with WriterLock(tmp_path / ".lock", tmp_path):
            pass
    finally:
        worker.kill()
        worker.join()


def test_nothing_is_left_but_what_was_written(tmp_path: Path) -> None:
    place = tmp_path / "runs" / "a"
    with WriterLock(place / ".lock", place):
        assert place.is_dir()
    assert list(tmp_path.iterdir()) == []
    with WriterLock(place / ".lock", place):
        (place / "file").touch()
    assert [path.name for path in place.iterdir()] == ["file"]


def test_what_was_removed_in_the_meantime_is_refused_and_not_made_again(tmp_path: Path) -> None:
    place = tmp_path / "run"
    with (
        pytest.raises(UserError, match=r"run=.*was removed or moved while it was being written"),
        WriterLock(place / ".lock", place) as lock,
        lock.while_in_place(),
    ):
        shutil.rmtree(place)
        (place / "analysis" / "missing").touch()  # FileNotFoundError
    assert not place.exists()


def test_the_same_path_made_again_is_another_directory(tmp_path: Path) -> None:
    place = tmp_path / "run"
    with WriterLock(place / ".lock", place) as lock:
        place.rename(tmp_path / "elsewhere")
        place.mkdir()
        with WriterLock(place / ".lock", place), pytest.raises(UserError, match="removed or moved"):
            lock.require_in_place()


@pytest.mark.parametrize(
    ("mount", "warned"),
    [
        ("server:/x {} nfs4 rw,vers=4.2,local_lock=none 0 0", False),
        ("server:/x {} nfs rw,vers=3,local_lock=all 0 0", True),
        ("server:/x {} nfs rw,nolock 0 0", True),
        ("/dev/sda1 {} ext4 rw 0 0", False),
    ],
)
def test_a_mount_that_keeps_locks_local_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], mount: str, warned: bool
) -> None:
    place = str(tmp_path.resolve()).replace(" ", "\\040")
    lines = ["/dev/root / ext4 rw 0 0", mount.format(place)]
    monkeypatch.setattr(locks, "_mounts", lambda: [line.split() for line in lines])
    with WriterLock(tmp_path / ".lock", tmp_path):
        pass
    assert ("another machine" in capsys.readouterr().err) is warned


def test_a_file_system_without_locks_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_locks(descriptor: int, how: int) -> None:
        raise OSError(locks.errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locks.fcntl, "flock", no_locks)
    with WriterLock(tmp_path / ".lock", tmp_path):
        pass
    assert "has no locks (No locks available)" in capsys.readouterr().err
