from pathlib import Path

import numpy as np
import pytest
import torch

from memlight.analyses.classmem.labels import ClassLabels, own_labels
from memlight.data.datasets import open_sources
from memlight.data.images import ImageDataModule
from memlight.data.labels import LabelFile
from memlight.data.sources import JoinedSource, MemorySource
from memlight.errors import UserError


def source(classes: bool = True) -> JoinedSource:
    """Four training images and two others."""
    names = ["cat", "dog"] if classes else []
    labels = torch.tensor([0, 1, 1, 0]) if classes else torch.full((4,), -1)
    train = MemorySource("pets", torch.zeros(4, 3, 2, 2, dtype=torch.uint8), labels, names, "a")
    test = MemorySource("pets", torch.zeros(2, 3, 2, 2, dtype=torch.uint8), labels[:2], names, "b")
    return JoinedSource(train, test)


def read(path: Path, text: str, images: JoinedSource | None = None) -> ClassLabels:
    path.write_text(text)
    return ClassLabels(*LabelFile.read(path).classes(images or source()), path)


def holding(images: JoinedSource) -> ImageDataModule:
    """A data module that has read these images."""
    data = ImageDataModule()
    data._source = images
    return data


def test_whole_numbers_are_in_their_order_and_words_in_the_alphabet(tmp_path: Path) -> None:
    numbers = read(tmp_path / "a.csv", "id,label\n5,10\n0,9\n2,010\n")
    assert numbers.names == ["9", "10"]
    assert numbers.by_id.tolist() == [0, -1, 1, -1, -1, 1]
    words = read(tmp_path / "b.csv", "\ufefflabel,note,id\nzebra,x,1\nant,,4\n\nzebra,y,3\n")
    assert words.names == ["ant", "zebra"]
    assert words.by_id.tolist() == [-1, 1, -1, 1, 0, -1]
    assert words.of(np.array([4, 0, 3])).tolist() == [0, -1, 1]
    mixed = read(tmp_path / "c.csv", "id,label\n0,9\n1,10\n2,none\n")
    assert mixed.names == ["10", "9", "none"]


@pytest.mark.parametrize("memory_limit_gb", [0.0, 4.0])
def test_files_are_named_by_path(tree: Path, tmp_path: Path, memory_limit_gb: float) -> None:
    images = JoinedSource(*open_sources("folder", str(tree), memory_limit_gb=memory_limit_gb))
    assert len(images.names) == len(images)
    rows = "".join(f"{name},{'big' if number % 3 else 'small'}\n" for number, name in enumerate(images.names))
    labels = read(tmp_path / "labels.csv", "path,label\n" + rows, images)
    assert labels.names == ["big", "small"]
    assert labels.by_id.tolist() == [0 if number % 3 else 1 for number in range(len(images))]
    assert [(tree / name).is_file() for name in images.names] == [True] * len(images)
    with pytest.raises(UserError, match=r"no such image: path nowhere.png; paths are written as train/cat/"):
        read(tmp_path / "labels.csv", "path,label\nnowhere.png,a\n", images)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the first line must name the columns id,label"),
        ("0,cat\n", "the first line must name the columns id,label"),
        ("id,kind\n0,cat\n", "the first line must name the columns id,label"),
        ("id,label\n0,cat\n1\n", "row 3 has no id or no label: '1'"),
        ("id,label\n0,\n", "row 2 has no id or no label: '0,'"),
        ("id,label\n,cat\n", "row 2 has no id or no label: ',cat'"),
        ("id,label\n0,cat\n0,dog\n", "id 0 is in it twice"),
        ("id,label\n0,1\n3,-1\n", "label -1 of id 3 is no class; leave such rows out"),
        ("id,label\n6,cat\n7,dog\n", "no such image: id 6, 7; ids go from 0 to 5"),
        ("id,label\n-1,cat\n", "no such image: id -1"),
        ("id,label\n1.0,cat\n", "no such image: id 1.0"),
        ("path,label\na.png,cat\n", "these images are in no files of their own; name them by id"),
    ],
)
def test_mistakes_name_the_file_and_the_row(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "labels.csv"
    with pytest.raises(UserError) as raised:
        read(path, text)
    assert str(raised.value).startswith(f"labels={path}: {words}")
    assert "\n" not in str(raised.value)


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_bytes(b"id,label\n0,\xff\xfe\n")
    for path in (tmp_path / "labels.csv", tmp_path / "nowhere.csv", tmp_path):
        with pytest.raises(UserError, match=r"^labels=.*cannot be read"):
            LabelFile.read(path)


def test_every_image_needs_a_class_and_every_class_an_image(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    labels = read(path, "id,label\n0,cat\n1,dog\n2,cat\n4,bird\n5,cat\n")
    assert labels.lacking(np.array([0, 1, 4])) is None
    for ids, words in (
        ([0, 1, 3, 4], "1 of 4 images have no class (id 3)"),
        ([0, 2], "no image of 2 of 3 classes (class bird, dog)"),
    ):
        with pytest.raises(UserError) as raised:
            labels.require("candidate", np.array(ids))
        assert str(raised.value).startswith(f"labels={path}: candidate split: {words}; complete the file or")
    one = read(path, "id,label\n0,cat\n1,cat\n")
    with pytest.raises(UserError, match="1 class is named; ClassMem compares at least two"):
        one.require("candidate", np.array([0, 1]))


def test_classes_that_came_with_the_images() -> None:
    labels = own_labels(holding(source()), "candidate")
    assert (labels.names, labels.by_id.tolist()) == (["cat", "dog"], [0, 1, 1, 0, 0, 1])
    with pytest.raises(UserError, match=r"^split='candidate': no image of 1 of 2 classes \(class dog"):
        labels.require("candidate", np.array([0, 3]))
    with pytest.raises(
        UserError, match=r"^split='shared': these images have no classes; give some with `labels=FILE.csv`"
    ):
        own_labels(holding(source(classes=False)), "shared")
