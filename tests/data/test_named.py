"""The loaders on tiny files in the real formats; only torchvision's checksums of the real files are switched off."""

import gzip
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torchvision.datasets as tv
from numpy.typing import NDArray

from memlight.data.datasets import NAMED, named_arrays
from memlight.errors import UserError

RNG = np.random.default_rng(0)


def test_digits_are_all_there_and_every_sixth_is_a_test_image() -> None:
    train, train_labels, classes = named_arrays("digits", None, True, False)
    test, test_labels, _ = named_arrays("digits", None, False, False)
    assert (train.shape, test.shape) == ((1497, 8, 8), (300, 8, 8))
    assert train.dtype == np.uint8
    assert (train.min(), train.max()) == (0, 255)
    assert classes == list("0123456789")
    for labels in (train_labels, test_labels):
        assert labels.dtype == np.int64
        assert np.bincount(labels).min() > 0.08 * labels.size
    assert not {image.tobytes() for image in train} & {image.tobytes() for image in test}


def images_and_labels(count: int, *shape: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    return RNG.integers(0, 256, (count, *shape), dtype=np.uint8), RNG.integers(0, 10, count)


def test_cifar10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tv.cifar, "check_integrity", lambda *_: True)
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    pixels, labels = images_and_labels(12, 3, 32, 32)
    for part, name in enumerate([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]):
        mine = slice(2 * part, 2 * part + 2)
        content = {"data": pixels[mine].reshape(2, -1), "labels": labels[mine].tolist()}
        (folder / name).write_bytes(pickle.dumps(content))
    names = [f"class {i}" for i in range(10)]
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": names}))
    for train, mine in ((True, slice(0, 10)), (False, slice(10, 12))):
        images, found, classes = named_arrays("cifar10", str(tmp_path), train, False)
        assert np.array_equal(images, pixels[mine].transpose(0, 2, 3, 1))
        assert found.tolist() == labels[mine].tolist()
        assert classes == names


@pytest.mark.parametrize(("dataset", "folder"), [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST")])
def test_mnist_family(tmp_path: Path, dataset: str, folder: str) -> None:
    raw = tmp_path / folder / "raw"
    raw.mkdir(parents=True)
    expected = {}
    for split, count in (("train", 5), ("t10k", 3)):
        pixels, labels = expected[split] = images_and_labels(count, 28, 28)
        contents = {
            "images-idx3": struct.pack(">4i", 0x803, count, 28, 28) + pixels.tobytes(),
            "labels-idx1": struct.pack(">2i", 0x801, count) + labels.astype(np.uint8).tobytes(),
        }
        for name, content in contents.items():
            (raw / f"{split}-{name}-ubyte").write_bytes(content)
            (raw / f"{split}-{name}-ubyte.gz").write_bytes(gzip.compress(content))
    for train, split in ((True, "train"), (False, "t10k")):
        images, found, classes = named_arrays(dataset, str(tmp_path), train, False)
        assert np.array_equal(images, expected[split][0])
        assert found.tolist() == expected[split][1].tolist()
        assert len(classes) == 10


def test_svhn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tv.svhn, "check_integrity", lambda *_: True)
    pixels = RNG.integers(0, 256, (32, 32, 3, 4), dtype=np.uint8)
    scipy.io.savemat(tmp_path / "train_32x32.mat", {"X": pixels, "y": np.array([[10], [1], [9], [10]])})
    images, labels, classes = named_arrays("svhn", str(tmp_path), True, False)
    assert np.array_equal(images, pixels.transpose(3, 0, 1, 2))
    assert labels.tolist() == [0, 1, 9, 0]
    assert classes == list("0123456789")


def test_stl10_has_its_unlabelled_images_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tv.stl10, "check_integrity", lambda *_: True)
    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    pixels, _ = images_and_labels(5, 3, 96, 96)
    (folder / "train_X.bin").write_bytes(pixels[:3].tobytes())
    (folder / "train_y.bin").write_bytes(bytes([1, 10, 5]))
    (folder / "unlabeled_X.bin").write_bytes(pixels[3:].tobytes())
    (folder / "class_names.txt").write_text("airplane\nbird\n")
    images, labels, classes = named_arrays("stl10", str(tmp_path), True, False)
    upright = pixels.transpose(0, 3, 2, 1)
    assert np.array_equal(images, upright)
    assert labels.tolist() == [0, 9, 4, -1, -1]
    assert classes == ["airplane", "bird"]


@pytest.mark.parametrize("dataset", NAMED)
def test_missing_files_name_the_flags(dataset: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^root=.*`download=True`"):
        named_arrays(dataset, str(tmp_path / "nowhere"), True, False)
    with pytest.raises(UserError, match=r"^root: .*`download=True`"):
        named_arrays(dataset, None, True, False)
