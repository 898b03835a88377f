import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from memlight.data.datasets import open_source, open_sources
from memlight.data.sources import FileSource, ImageSource, MemorySource
from memlight.errors import UserError


def everything(source: ImageSource) -> torch.Tensor:
    return source.read(range(len(source)))


def test_folder_in_memory(tree: Path) -> None:
    train, test = open_sources("folder", str(tree))
    assert isinstance(train, MemorySource)
    assert (len(train), len(test), train.size, train.name) == (9, 5, (6, 8), "pets")
    assert train.classes == test.classes == ["cat", "dog"]
    assert train.labels.tolist() == [0] * 5 + [1] * 4
    for number, path in enumerate(sorted(tree.glob("train/*/*.png"))):
        expected = np.asarray(Image.open(path)).transpose(2, 0, 1)
        assert np.array_equal(train.read([number])[0].numpy(), expected)


def test_decoded_on_demand_gives_what_memory_gives(tree: Path) -> None:
    in_memory, on_demand = (open_source("folder", str(tree), True, memory_limit_gb=gb) for gb in (4.0, 0.0))
    assert isinstance(on_demand, FileSource)
    order = [8, 0, 3, 3, 7]
    assert torch.equal(in_memory.read(order), on_demand.read(order))
    assert torch.equal(in_memory.labels, on_demand.labels)
    assert in_memory.fingerprint() == on_demand.fingerprint()
    assert on_demand.read([]).shape == (0, 3, 6, 8)


def test_memory_limit_counts_pixels(tree: Path) -> None:
    needed = 9 * 3 * 6 * 8 / 1e9
    assert isinstance(open_source("folder", str(tree), True, memory_limit_gb=needed), MemorySource)
    assert isinstance(open_source("folder", str(tree), True, memory_limit_gb=needed * 0.99), FileSource)


@pytest.mark.parametrize("memory_limit_gb", [0.0, 4.0])
def test_archives_give_what_the_folder_gives(tree: Path, zipped: Path, memory_limit_gb: float) -> None:
    tarred = tree.parent / "pets.tar"
    with tarfile.open(tarred, "w") as archive:
        archive.add(tree, "pets")
    folders = open_sources("folder", str(tree))
    for archived in (zipped, tarred):
        for folder, found in zip(
            folders, open_sources("archive", str(archived), memory_limit_gb=memory_limit_gb), strict=True
        ):
            assert torch.equal(everything(found), everything(folder))
            assert found.fingerprint() == folder.fingerprint()
            assert torch.equal(found.labels, folder.labels)


def test_named_data_set_from_class_folders(tree: Path) -> None:
    train, test = open_sources("cifar10", str(tree))
    assert (train.name, len(train), len(test)) == ("cifar10", 9, 5)


def test_auto_without_halves_is_all_training_images(tree: Path) -> None:
    train, test = open_sources("auto", str(tree / "train"))
    assert (len(train), len(test), test.size) == (9, 0, train.size)
    assert test.read([]).shape == (0, 3, 6, 8)


def write_sizes(root: Path, *sizes: tuple[int, int]) -> None:
    root.mkdir()
    for number, (width, height) in enumerate(sizes):
        Image.new("RGB", (width, height), (number, 0, 0)).save(root / f"{number}.png")


def test_mixed_sizes_become_squares_of_the_median_shorter_side(tmp_path: Path) -> None:
    write_sizes(tmp_path / "mixed", (10, 20), (30, 12), (14, 14), (90, 16), (18, 40))
    assert open_source("auto", str(tmp_path / "mixed"), True).size == (14, 14)
    write_sizes(tmp_path / "large", (500, 400), (300, 700))
    assert open_source("auto", str(tmp_path / "large"), True).size == (256, 256)


def test_test_images_take_the_size_of_the_training_images(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    write_sizes(tmp_path / "set" / "train", (10, 12), (10, 12))
    write_sizes(tmp_path / "set" / "test", (40, 40))
    train, test = open_sources("auto", str(tmp_path / "set"))
    assert train.size == test.size == (12, 10)


def test_image_size_asked_for(tree: Path) -> None:
    assert open_source("auto", str(tree), True, image_size=16).size == (16, 16)
    digits = open_source("digits", None, True, image_size=32)
    assert everything(digits).shape == (1497, 3, 32, 32)


def test_digits_are_gray_in_three_channels() -> None:
    train, test = open_sources("digits", None)
    images = everything(train)
    assert images.shape == (1497, 3, 8, 8)
    assert images.dtype == torch.uint8
    assert torch.equal(images[:, 0], images[:, 1])
    assert torch.equal(images[:, 0], images[:, 2])
    assert train.fingerprint() != test.fingerprint()


def break_file(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:60])


@pytest.mark.parametrize("memory_limit_gb", [0.0, 4.0])
def test_broken_image_is_named(tree: Path, memory_limit_gb: float) -> None:
    break_file(tree / "train/dog/02.png")
    with pytest.raises(UserError, match=r"^root: .*train/dog/02\.png .*`on_error='skip'`"):
        everything(open_source("folder", str(tree), True, memory_limit_gb=memory_limit_gb))


@pytest.mark.parametrize("memory_limit_gb", [0.0, 4.0])
def test_broken_images_are_left_out_when_asked(tree: Path, memory_limit_gb: float) -> None:
    whole = open_source("folder", str(tree), True)
    for name in ("train/cat/00.png", "train/dog/02.png"):
        break_file(tree / name)
    with pytest.warns(UserWarning, match=r"2 of 9 images are broken and left out: .*00\.png, .*02\.png$"):
        source = open_source("folder", str(tree), True, memory_limit_gb=memory_limit_gb, on_error="skip")
    assert torch.equal(everything(source), whole.read([1, 2, 3, 4, 5, 6, 8]))
    assert source.labels.tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert source.skipped == [str(tree / "train/cat/00.png"), str(tree / "train/dog/02.png")]
    assert source.fingerprint() != whole.fingerprint()


def test_broken_image_in_an_archive_is_named(tree: Path) -> None:
    break_file(tree / "test/cat/01.png")
    path = tree.parent / "pets.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in tree.rglob("*.png"):
            archive.write(file, file.relative_to(tree))
    with pytest.raises(UserError, match=r"pets\.zip:test/cat/01\.png cannot be decoded"):
        open_sources("archive", str(path))


def break_everything(tree: Path) -> None:
    for path in tree.rglob("*.png"):
        break_file(path)


@pytest.mark.parametrize(("on_error", "size"), [("raise", None), ("skip", None), ("raise", 8), ("skip", 8)])
def test_only_broken_images(tree: Path, on_error: str, size: int | None) -> None:
    break_everything(tree)
    with pytest.raises(UserError, match=r"^root: .*cat"):
        open_sources("folder", str(tree), on_error=on_error, image_size=size)


def empty(tree: Path) -> None:
    shutil.rmtree(tree)
    tree.mkdir()


def no_training_images(tree: Path) -> None:
    for path in tree.glob("train/*/*"):
        path.unlink()
    for path in tree.glob("test/*/*"):
        path.unlink()


@pytest.mark.parametrize("change", [empty, no_training_images])
def test_zero_images(tree: Path, change: Callable[[Path], None]) -> None:
    change(tree)
    with pytest.raises(UserError, match=r"^root=.*: no images in it"):
        open_sources("folder", str(tree))


@pytest.mark.parametrize(
    ("dataset", "root", "on_error", "message"),
    [
        ("cifar11", None, "raise", r"^dataset='cifar11': choose one of digits, cifar10"),
        ("digits", None, "ignore", r"on_error='ignore': choose raise or skip"),
        ("folder", None, "raise", r"root: .*needs a directory or an archive"),
        ("folder", "nowhere", "raise", r"^root='nowhere': no such directory"),
        ("cifar10", None, "raise", r"root: cifar10 needs a directory; .*`download=True`"),
    ],
)
def test_what_cannot_be_opened_names_its_argument(dataset: str, root: str | None, on_error: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        open_sources(dataset, root, on_error=on_error)
