"""One's own images in an `ImageDataModule`: sizes by shares, views that fit, classes of a file, broken files."""

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from memlight.data import ImageDataModule
from memlight.data.splits import SPLITS
from memlight.errors import UserError
from tests.data.test_datasets import break_file


def paint(folder: Path, count: int, side: int = 8, start: int = 0) -> Path:
    """Images of two classes, no two alike."""
    for number in range(start, start + count):
        pixels = np.random.default_rng(number).integers(0, 256, (side, side, 3), dtype=np.uint8)
        (place := folder / ("cat", "dog")[number % 2]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(place / f"{number:03}.png")
    return folder


def opened(root: Path, **options: Any) -> ImageDataModule:
    data = ImageDataModule("auto", str(root), **options)
    data.open()
    return data


def sizes(data: ImageDataModule) -> list[int]:
    return [len(data.split.ids(name)) for name in SPLITS]


def test_shares_of_a_set_without_test_images(tmp_path: Path) -> None:
    data = opened(paint(tmp_path / "set", 66), split=[0.8, 0.1, 0.1])
    assert sizes(data) == [48, 6, 6, 6]
    assert len(set(np.concatenate([data.split.ids(name) for name in SPLITS]).tolist())) == 66
    assert data.facts == ["external: 6 of 66 images, held out: none are for tests"]
    again = ImageDataModule(**data.options())  # as an analysis opens the run again, which is not told of shares
    again.open()
    assert "split" not in data.options() and again.split.sha256 == data.split.sha256


def test_shares_of_a_set_with_test_images(tmp_path: Path) -> None:
    paint(tmp_path / "set/train", 60), paint(tmp_path / "set/val", 10, start=60)
    data = opened(tmp_path / "set", split=[0.8, 0.1, 0.1])
    assert sizes(data) == [48, 6, 6, 6] and data.split.external.min() >= 60
    assert data.facts == ["images: 60 in train/ to train on, 10 in val/ to test on"]


def test_shares_and_a_file_of_splits_are_one_too_many() -> None:
    with pytest.raises(UserError, match=r"^split, splits: .*give one"):
        ImageDataModule(split=[0.8, 0.1, 0.1], splits="a.csv")


def test_one_error_for_all_sizes_and_what_it_offers_works(tmp_path: Path) -> None:
    root = paint(tmp_path / "set", 50)
    data = ImageDataModule("auto", str(root))
    with pytest.raises(
        UserError, match=r"^num_shared, batch_size: .*`batch_size=256`: an epoch has 4\d images"
    ) as raised:
        data.open(training=True)
    offered = re.findall(r"`(\w+)=(\d+)`", str(raised.value).partition("these images take")[2])
    assert [name for name, _ in offered] == [*(f"num_{split}" for split in SPLITS), "batch_size"]
    data = ImageDataModule("auto", str(root), **{name: int(value) for name, value in offered})
    data.open(training=True)
    assert len(next(iter(data.train_dataloader())).ids) == data.batch_size


def test_a_batch_that_is_larger_than_an_epoch_is_refused_where_something_is_trained(tmp_path: Path) -> None:
    root = paint(tmp_path / "set", 50)
    assert sizes(opened(root, split=[0.8, 0.1, 0.1])) == [38, 4, 4, 4]
    with pytest.raises(UserError, match=r"^batch_size=256: an epoch has 42 images; these images take `batch_size=32`"):
        ImageDataModule("auto", str(root), split=[0.8, 0.1, 0.1]).open(training=True)


SOME = {"num_shared": 4, "num_candidate": 3, "num_independent": 3, "num_external": 2}


def test_a_view_size_that_nobody_said_is_refused_where_images_are_much_larger(tmp_path: Path) -> None:
    root = paint(tmp_path / "set", 12, side=256)
    with pytest.raises(UserError, match=r"^view_size: the images have 256 x 256 pixels, and views would") as raised:
        opened(root, **SOME)
    assert "`view_size=224`" in str(raised.value) and "`view_size=32`" in str(raised.value)
    for said in ({"view_size": 32}, {"view_size": 224}, {"image_size": 48}):
        opened(root, **SOME, **said)
    assert opened(paint(tmp_path / "small", 12, side=32), **SOME).view_size == 32


def test_classes_of_a_file_take_the_place_of_folders_and_the_splits_stay(tmp_path: Path) -> None:
    root = paint(tmp_path / "set", 12)
    plain = opened(root, **SOME)
    rows = [f"{name},{'even' if number % 2 == 0 else 'odd'}" for number, name in enumerate(plain.source.names[:10])]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label", *rows, ""]))
    data = opened(root, labels=str(tmp_path / "labels.csv"), **SOME)
    assert data.classes == ["even", "odd"] and data.labels_of(range(12)).tolist() == [0, 1] * 5 + [-1, -1]
    assert data.split.sha256 == plain.split.sha256
    assert "labels: from labels.csv, 2 classes, and 2 of 12 images have none" in data.facts
    with pytest.raises(UserError, match=r"^labels=.*cannot be read"):
        ImageDataModule("auto", str(root), labels="nowhere.csv")


@pytest.mark.parametrize("memory_limit_gb", [0.0, 4.0])
def test_a_file_that_broke_takes_no_id_from_the_others(memory_limit_gb: float, tmp_path: Path) -> None:
    root = paint(tmp_path / "set", 12)
    options = {**SOME, "memory_limit_gb": memory_limit_gb, "image_size": 8}
    whole = opened(root, **options)
    lost = int(whole.split.candidate[1])
    break_file(root / whole.source.names[lost])
    data = ImageDataModule("auto", str(root), **options)
    data.keep_broken()
    data.open()
    assert data.split.sha256 == whole.split.sha256
    (line,) = data.leave_out_broken()
    assert line == f"left out: 1 of 3 candidate images cannot be decoded: {root / whole.source.names[lost]}"
    assert sorted({*whole.split.candidate.tolist()} - {*data.split.candidate.tolist()}) == [lost]
    assert sizes(data) == [4, 2, 3, 2]
    kept = [id_ for id_ in range(12) if id_ != lost]
    assert torch.equal(data.images_of(kept), whole.images_of(kept))
    assert not data.images_of([lost]).any()
    assert data.leave_out_broken() == []


def test_images_that_were_numbered_without_broken_ones_stay_so(tmp_path: Path) -> None:
    root = paint(tmp_path / "set", 13)
    break_file(root / "cat/004.png")
    with pytest.warns(UserWarning, match="1 of 13 images are broken and left out"):
        trained = opened(root, on_error="skip", **SOME)
    data = ImageDataModule(**trained.options())
    data.keep_broken()
    with pytest.warns(UserWarning, match="1 of 13 images are broken and left out"):
        data.open()
    assert data.split.sha256 == trained.split.sha256 and data.leave_out_broken() == []
    shutil.rmtree(root)
