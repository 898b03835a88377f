import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from memlight.data import archives
from memlight.data.archives import open_archive
from memlight.data.places import open_files

FILES = {f"set/é{i}.png": os.urandom(50 + i) for i in range(40)} | {"set/empty.png": b""}


def make_zip(path: Path, files: dict[str, bytes] = FILES) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def make_tar(path: Path) -> Path:
    folder = path.with_suffix(".d")
    (folder / "set").mkdir(parents=True)
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    with tarfile.open(path, "w") as archive:
        archive.add(folder / "set", "set")
    return path


def refuse(path: str) -> None:
    raise AssertionError(f"{path} was listed again")


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_a_kept_index_is_used_the_second_time(tmp_path: Path, make, monkeypatch: pytest.MonkeyPatch) -> None:
    path, kept = make(tmp_path / "a.bin"), tmp_path / "store" / "index.npz"
    first = open_archive(str(path), kept)
    monkeypatch.setattr(archives, "_zip_index", refuse)
    monkeypatch.setattr(archives, "_tar_index", refuse)
    second = open_archive(str(path), kept)
    for archive in (first, second):
        assert sorted(archive.names) == sorted(FILES)
        assert {name: archive.read(name) for name in archive.names} == FILES
        assert {name: archive.size(name) for name in archive.names} == {n: len(c) for n, c in FILES.items()}


def test_an_archive_that_changed_is_listed_again(tmp_path: Path) -> None:
    path, kept = make_zip(tmp_path / "a.zip"), tmp_path / "index.npz"
    open_archive(str(path), kept)
    make_zip(path, {"set/new.png": b"new"})
    assert open_archive(str(path), kept).read("set/new.png") == b"new"
    assert open_archive(str(path), kept).names == ["set/new.png"]


@pytest.mark.parametrize("damage", [lambda content: content[:-100], lambda _: b"", lambda _: b"nonsense" * 50])
def test_a_damaged_index_is_made_anew(tmp_path: Path, damage) -> None:
    path, kept = make_zip(tmp_path / "a.zip"), tmp_path / "index.npz"
    open_archive(str(path), kept)
    whole = kept.read_bytes()
    kept.write_bytes(damage(whole))
    assert open_archive(str(path), kept).read("set/é7.png") == FILES["set/é7.png"]
    assert kept.read_bytes() == whole


def test_an_empty_archive(tmp_path: Path) -> None:
    path, kept = make_zip(tmp_path / "a.zip", {}), tmp_path / "index.npz"
    assert open_archive(str(path), kept).names == open_archive(str(path), kept).names == []


def test_of_two_files_of_a_name_the_later_counts_in_a_kept_index_too(tmp_path: Path) -> None:
    path, kept = tmp_path / "a.zip", tmp_path / "index.npz"
    with zipfile.ZipFile(path, "w") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("a.png", b"old")
        archive.writestr("a.png", b"newer")
    for _ in range(2):
        archive = open_archive(str(path), kept)
        assert (archive.names, archive.read("a.png"), archive.size("a.png")) == (["a.png"], b"newer", 5)


def test_a_folder_says_sizes_too(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"12345")
    assert open_files(str(tmp_path)).size("a.png") == 5
