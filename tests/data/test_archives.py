import io
import multiprocessing
import pickle
import random
import tarfile
import zipfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from memlight.data.archives import Archive, open_archive
from memlight.errors import UserError

FILES = {f"set/{i:03}.png": random.Random(i).randbytes(200 + 37 * i) for i in range(60)} | {"set/empty.png": b""}


def make_zip(path: Path, compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.mkdir("set")
        for name, content in FILES.items():
            archive.writestr(name, content)
    return path


def make_deflated(path: Path) -> Path:
    return make_zip(path, zipfile.ZIP_DEFLATED)


def make_prefixed_zip(path: Path) -> Path:
    """As a self-extracting archive: something else comes first."""
    make_zip(path)
    path.write_bytes(b"#!/bin/sh\n" * 50 + path.read_bytes())
    return path


def make_streamed_zip(path: Path) -> Path:
    """Written to a pipe: sizes follow the data, so the local headers hold zeros."""

    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self.content = bytearray()

        def writable(self) -> bool:
            return True

        def write(self, data: bytes) -> int:  # type: ignore[override]
            self.content += data
            return len(data)

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in FILES.items():
            archive.writestr(name, content)
    path.write_bytes(pipe.content)
    return path


def make_tar(path: Path, mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        archive.addfile(directory := tarfile.TarInfo("set"))
        directory.type = tarfile.DIRTYPE
        for name, content in FILES.items():
            entry = tarfile.TarInfo(f"./{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


@pytest.mark.parametrize("make", [make_zip, make_deflated, make_prefixed_zip, make_streamed_zip, make_tar])
def test_every_file_is_read_back(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    archive = open_archive(str(make(tmp_path / "images")))
    assert {name: archive.read(name) for name in archive.names if name != "set"} == FILES


_shared: Archive


def read_shuffled(seed: int) -> int:
    """Number of wrong reads out of 3000."""
    chosen = random.Random(seed).choices(list(FILES), k=3000)
    return sum(_shared.read(name) != FILES[name] for name in chosen)


@pytest.mark.parametrize("make", [make_deflated, make_tar])
def test_processes_forked_from_one_reader_do_not_disturb_one_another(
    tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    global _shared
    _shared = open_archive(str(make(tmp_path / "images")))
    with ProcessPoolExecutor(4, multiprocessing.get_context("fork")) as executor:
        assert list(executor.map(read_shuffled, range(4))) == [0, 0, 0, 0]


def test_archive_survives_pickling(tmp_path: Path) -> None:
    """Where processes are spawned rather than forked, the source is pickled."""
    archive = pickle.loads(pickle.dumps(open_archive(str(make_zip(tmp_path / "a.zip")))))
    assert archive.read("set/007.png") == FILES["set/007.png"]


def test_the_later_of_two_files_of_a_name_counts(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "a.tar")
    with tarfile.open(path, "a") as archive:
        entry = tarfile.TarInfo("set/000.png")
        entry.size = 5
        archive.addfile(entry, io.BytesIO(b"newer"))
    assert open_archive(str(path)).read("set/000.png") == b"newer"


@pytest.mark.parametrize("mode", ["w:gz", "w:xz", "w:bz2"])
def test_compressed_tar_is_refused_with_the_way_out(tmp_path: Path, mode: str) -> None:
    path = make_tar(tmp_path / "a.tar.gz", mode)
    line = r"mkdir \S*/a && tar -xf \S*a\.tar\.gz -C \S*/a"
    with pytest.raises(UserError, match=rf"^root=.*a\.tar\.gz.: a compressed archive .*; unpack it with `{line}`$"):
        open_archive(str(path))


def test_other_compression_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="neither stored nor deflated"):
        open_archive(str(make_zip(tmp_path / "a.zip", zipfile.ZIP_LZMA)))


def test_encrypted_zip_is_refused(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip")
    content = bytearray(path.read_bytes())
    content[content.rindex(b"PK\1\2") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="is encrypted"):
        open_archive(str(path))


@pytest.mark.parametrize("content", [b"", b"not an archive" * 100])
def test_something_else_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"^root=.*neither a zip nor a tar"):
        open_archive(str(path))


def test_truncated_zip_is_refused(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip")
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(UserError, match=r"^root=.*neither a zip nor a tar"):
        open_archive(str(path))


def test_truncated_tar_is_refused(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "a.tar")
    path.write_bytes(path.read_bytes()[: 40 * 1024])
    with pytest.raises(UserError, match="a damaged one; fetch it again"):
        open_archive(str(path))


def test_archive_that_shrinks_after_it_was_opened(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "a.tar")
    archive = open_archive(str(path))
    with path.open("r+b") as file:
        file.truncate(40 * 1024)
    with pytest.raises(EOFError, match="ends before byte"):
        archive.read("set/059.png")


def test_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip")
    content = bytearray(path.read_bytes())
    content[content.index(FILES["set/030.png"]) + 10] ^= 1
    path.write_bytes(content)
    archive = open_archive(str(path))
    assert archive.read("set/029.png") == FILES["set/029.png"]
    with pytest.raises(ValueError, match="checksum"):
        archive.read("set/030.png")
