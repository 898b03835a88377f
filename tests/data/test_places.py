"""Archives as other systems and data sets make them: read, or refused with the line that unpacks them."""

import builtins
import io
import shlex
import subprocess
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from memlight.data.datasets import open_sources
from memlight.data.places import list_training_images, name_of, open_files, open_images, place_of
from memlight.data.tables import TableImages
from memlight.errors import UserError
from tests.said import refused


def test_backslashes_of_a_zip_made_on_windows_are_folders(tree: Path, tmp_path: Path) -> None:
    path = tmp_path / "windows.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(tree.rglob("*.png")):
            entry = zipfile.ZipInfo("x")
            entry.filename, entry.create_system = str(file.relative_to(tree)).replace("/", "\\"), 0
            archive.writestr(entry, file.read_bytes())
        entry = zipfile.ZipInfo("x")
        entry.filename, entry.create_system = "train\\empty\\", 0
        archive.writestr(entry, b"")
    files, train, test = open_images(str(path), tmp_path / "kept.npz")
    _, plain_train, plain_test = open_images(str(tree))
    assert (train.fingerprint(), test.fingerprint()) == (plain_train.fingerprint(), plain_test.fingerprint())
    assert files.read("train/cat/00.png") == (tree / "train/cat/00.png").read_bytes()
    assert sorted(open_files(str(path), tmp_path / "kept.npz").names) == sorted(files.names)


def test_a_backslash_in_a_name_on_unix_stays(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("train/a\\b.png", b"x")
    assert open_files(str(tmp_path / "a.zip")).names == ["train/a\\b.png"]


def tar_of_tars(tree: Path, path: Path) -> None:
    with tarfile.open(path, "w") as outer:
        for kind in ("cat", "dog"):
            data = io.BytesIO()
            with tarfile.open(fileobj=data, mode="w") as inner:
                for file in sorted((tree / "train" / kind).iterdir()):
                    inner.add(file, file.name)
            info = tarfile.TarInfo(f"{kind}.tar")
            info.size = len(data.getvalue())
            outer.addfile(info, io.BytesIO(data.getvalue()))


@pytest.mark.parametrize("compressed", [False, True])
def test_the_line_that_unpacks_does(compressed: bool, tree: Path, tmp_path: Path) -> None:
    path = tmp_path / ("my set.tar.gz" if compressed else "my set.tar")
    if compressed:
        with tarfile.open(path, "w:gz") as archive:
            archive.add(tree / "train", "train")
    else:
        tar_of_tars(tree, path)
    with pytest.raises(UserError, match=r"^root=.*(a compressed archive|no images in it but 2 archives)") as raised:
        open_images(str(path))
    line = str(raised.value).partition("`")[2].rstrip("`")
    subprocess.run(["bash", "-c", line], check=True)
    place = shlex.split(line)[1]
    _, train, _ = open_images(place)
    assert train.classes == ["cat", "dog"] and train.labels == [0] * 5 + [1] * 4


def test_archives_of_other_kinds_in_a_folder_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"x")
    with refused(r"^--root .*: no images in it but 1 archives \(a\.zip\); unpack them, each into a folder of its own"):
        open_images(str(tmp_path))


def test_names_alone_are_enough_where_classes_do_not_matter(tree: Path) -> None:
    (tree / "dataset.json").write_text("{")  # which would be refused if it were read
    _, names = list_training_images(str(tree))
    assert len(names) == 9


def test_without_the_library_one_line_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    found = builtins.__import__

    def missing(name: str, *arguments: Any) -> Any:
        if name == "datasets":
            raise ImportError(name)
        return found(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(UserError, match=r"^root='hf:org/pets': needs the library datasets.*pip install 'memlight\[dat"):
        TableImages("hf:org/pets")


def test_a_linked_folder_is_called_as_it_was_given(tree: Path) -> None:
    (tree.parent / "link").symlink_to(tree)
    train, _ = open_sources("auto", str(tree.parent / "link"))
    assert train.name == "link" and name_of(f"{tree}/") == "pets"  # the name is part of the hash of a run's splits
    assert place_of(str(tree.parent / "link")) == str(tree.resolve())
