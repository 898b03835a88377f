"""Classes that files beside images tell, as data sets bring them along; and files of one's own in several forms."""

import io
import json
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from memlight.data.labels import LabelFile
from memlight.data.places import open_images
from memlight.data.sources import JoinedSource, MemorySource
from memlight.errors import UserError
from tests.said import refused


def png(value: int = 0) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 4), (value, 0, 0)).save(file, "png")
    return file.getvalue()


def write(folder: Path, names: list[str], **texts: str) -> Path:
    """Images, and files of text whose names have two underscores for a dot."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(png())
    for name, text in texts.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder


STORED = [f"{number // 10:05}/img{number:08}.png" for number in range(40)]
CLASS_OF = {name: number % 4 for number, name in enumerate(STORED)}


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("below", ["", "some/where/"])
def test_dataset_json_of_stylegan_and_edm2(zipped: bool, below: str, tmp_path: Path) -> None:
    labels = json.dumps({"labels": [[name.replace("/", "\\"), label] for name, label in CLASS_OF.items()]})
    place = write(tmp_path / "set", [below + name for name in STORED])
    (place / below / "dataset.json").write_text(labels)
    if zipped:
        with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
            for path in sorted(place.rglob("*.*")):
                archive.write(path, path.relative_to(place))
        place = tmp_path / "set.zip"
    _, train, _ = open_images(str(place))
    assert train.classes == ["0", "1", "2", "3"] and train.labels == list(CLASS_OF.values())
    assert train.facts == (f"labels: from {below}dataset.json, 4 classes",)


@pytest.mark.parametrize(
    ("labels", "fact"),
    [
        ("null", "labels: none from dataset.json (it has none, and folders beside it tell none)"),
        ("[]", "labels: none from dataset.json (it has none, and folders beside it tell none)"),
        (
            json.dumps([[name, [0.1, 0.9]] for name in STORED]),
            "labels: none from dataset.json (vectors are no classes)",
        ),
    ],
)
def test_folders_beside_a_dataset_json_without_classes_tell_none(labels: str, fact: str, tmp_path: Path) -> None:
    place = write(tmp_path / "set", STORED, dataset__json=f'{{"labels": {labels}}}')
    _, train, _ = open_images(str(place))
    assert train.classes == [] and set(train.labels) == {-1} and fact in train.facts


def test_of_images_that_a_file_does_not_name_it_is_said(tmp_path: Path) -> None:
    some = json.dumps({"labels": [[name, label] for name, label in list(CLASS_OF.items())[:30]]})
    _, train, _ = open_images(str(write(tmp_path / "some", STORED, dataset__json=some)))
    assert train.labels[28:32] == [0, 1, -1, -1]
    assert train.facts == (
        "labels: from dataset.json, 4 classes, and 10 images have none",
        "labels: 10 of 40 have none",
    )
    none = json.dumps({"labels": [["x.png", 1]]})
    _, train, _ = open_images(str(write(tmp_path / "none", ["cat/1.png", "dog/2.png"], dataset__json=none)))
    assert train.classes == ["cat", "dog"]
    assert train.facts == ("labels: dataset.json names none of the images here and is not used (it names x.png)",)


@pytest.mark.parametrize("text", ['{"labels": [[1, 2]]}', '{"labels": ["a.png"]}', "{", "\0"])
def test_a_damaged_dataset_json_is_refused(text: str, tmp_path: Path) -> None:
    with refused(r"^--root .*dataset\.json: (its labels are not pairs|is not JSON)"):
        open_images(str(write(tmp_path / "set", STORED, dataset__json=text)))


def test_a_json_of_something_else_is_not_read(tmp_path: Path) -> None:
    _, train, _ = open_images(str(write(tmp_path / "set", ["cat/1.png", "dog/2.png"], dataset__json='{"name": "x"}')))
    assert train.classes == ["cat", "dog"] and train.facts == ()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("metadata.csv", "file_name,label\n0.png,7\n1.png,10\n2.png,7\n"),
        ("metadata.csv", '\ufefffile_name,caption,label\r\n0.png,"a, b",7\r\n1.png,,10\r\n2.png,c,7\r\n'),
        (
            "metadata.jsonl",
            "".join(f'{{"file_name": "{i}.png", "label": {label}}}\n' for i, label in enumerate((7, 10, 7))),
        ),
    ],
)
def test_metadata_of_image_folders(name: str, text: str, tmp_path: Path) -> None:
    place = write(tmp_path / "set", ["train/0.png", "train/1.png", "train/2.png", "val/3.png"])
    (place / "train" / name).write_text(text)
    _, train, test = open_images(str(place))
    assert (train.classes, train.labels, test.labels) == (["7", "10"], [0, 1, 0], [-1])
    (place / "train" / name).unlink()
    (place / name).write_text(text.replace("0.png", "train/0.png").replace("1.png", "train/1.png"))
    _, train, _ = open_images(str(place))
    assert (train.classes, train.labels) == (["7", "10"], [0, 1, -1])


def test_metadata_without_labels_leaves_the_folders(tmp_path: Path) -> None:
    place = write(tmp_path / "set", ["cat/1.png", "dog/2.png"], metadata__csv="file_name,text\ncat/1.png,a cat\n")
    assert open_images(str(place))[1].classes == ["cat", "dog"]


def test_tiny_imagenet_as_downloaded(tmp_path: Path) -> None:
    names = [f"train/{kind}/images/{kind}_{i}.JPEG" for kind in ("n1", "n2", "n3") for i in range(2)]
    names += [f"{half}/images/{half}_{i}.JPEG" for half in ("val", "test") for i in range(4)]
    place = write(tmp_path / "tiny", names)
    rows = [f"val_{i}.JPEG\t{kind}\t0\t0\t63\t63" for i, kind in enumerate(("n3", "n1", "n2", "n3"))]
    (place / "val/val_annotations.txt").write_text("\n".join(rows) + "\n")
    _, train, test = open_images(str(place))
    assert train.classes == ["n1", "n2", "n3"] and train.labels == [0, 0, 1, 1, 2, 2]
    assert dict(zip(test.names, test.labels, strict=True)) == {
        **{f"test/images/test_{i}.JPEG": -1 for i in range(4)},
        **{f"val/images/val_{i}.JPEG": label for i, label in enumerate((2, 0, 1, 2))},
    }
    assert train.facts == (
        "images: 6 in train/ to train on, 4 in test/, 4 in val/ to test on",
        "labels: from val/val_annotations.txt, 3 classes",
        "labels: none in test/",
    )


def shard(path: Path, first: int, classes: list[int | None], ending: str = "png") -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    with tarfile.open(path, "w") as archive:
        for number, label in enumerate(classes, first):
            files = {
                f"{number:06}.{ending}": png(number),
                **({} if label is None else {f"{number:06}.cls": b"%d\n" % label}),
            }
            for name, data in {**files, f"{number:06}.json": b"{}"}.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return path


def test_one_shard_of_a_webdataset(tmp_path: Path) -> None:
    files, train, _ = open_images(str(shard(tmp_path / "a.tar", 0, [3, 11, 3, None], "seg.png")))
    assert (train.classes, train.labels) == (["3", "11"], [0, 1, 0, -1])
    assert files.read(train.names[1]) == png(1) and files.size(train.names[1]) == len(png(1))
    assert train.facts[0] == "labels: from .cls files, 2 classes, and 1 images have none"


def test_a_folder_of_shards(tmp_path: Path) -> None:
    for half, shards in (("train", 2), ("val", 1)):
        for number in range(shards):
            shard(tmp_path / f"set-{half}-{number:04}.tar", number, [number, 5])
    files, train, test = open_images(str(tmp_path))
    assert (train.classes, train.labels, test.labels) == (["0", "1", "5"], [0, 2, 1, 2], [0, 2])
    assert files.read("set-train-0001.tar/000002.png") == png(2)
    assert files.where("set-val-0000.tar/000000.png").endswith("set-val-0000.tar:000000.png")


def test_a_folder_of_tars_of_one_class_each(tmp_path: Path) -> None:
    for name in ("n01440764", "n01443537"):
        shard(tmp_path / f"{name}.tar", 0, [None, None])
    _, train, _ = open_images(str(tmp_path))
    assert (train.classes, train.labels) == (["n01440764", "n01443537"], [0, 0, 1, 1])


@pytest.mark.parametrize("content", [b"", b"x" * 300])
def test_a_class_of_an_image_that_is_none_is_refused(content: bytes, tmp_path: Path) -> None:
    (write(tmp_path / "set", ["0.png"]) / "0.cls").write_bytes(content)
    with refused(r"^--root .*0\.cls: is no class of an image"):
        open_images(str(tmp_path / "set"))


def source(names: list[str]) -> JoinedSource:
    def half(of: list[str]) -> MemorySource:
        pixels = torch.zeros(len(of), 3, 2, 2, dtype=torch.uint8)
        return MemorySource("pets", pixels, torch.full((len(of),), -1), [], "x", names=of)

    return JoinedSource(half(names[:3]), half(names[3:]))


PATHS = ["train/a/0.png", "train/b/0.png", "train/c/1.png", "val/a/7.png"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("labels.csv", "path,label\ntrain/a/0.png,cat\ntrain/c/1.png,dog\nval/a/7.png,cat\n"),
        (
            "labels.csv",
            "file_name,x,class\n/data/pets/train/a/0.png,,cat\n/data/pets/train/c/1.png,,dog\n/data/pets/val/a/7.png,,cat\n",
        ),
        ("labels.tsv", "id\tlabel\n0\tcat\n2\tdog\n3\tcat\n"),
        (
            "labels.json",
            '{"train\\\\a\\\\0.png": "cat", "c/1.png": "dog", "7.png": "cat"}'.replace(
                "c/1.png", "train/c/1.png"
            ).replace('"7.png', '"val/a/7.png'),
        ),
        ("labels.json", '{"0": "cat", "2": "dog", "3": "cat"}'),
        ("labels.json", '[{"id": 0, "label": "cat"}, {"id": 2, "label": "dog"}, {"id": 3, "label": "cat"}]'),
        ("labels.json", '{"labels": [["train/a/0.png", "cat"], ["train/c/1.png", "dog"], ["val/a/7.png", "cat"]]}'),
        (
            "labels.jsonl",
            "".join(
                f'{{"path": "{at}.png", "label": "{of}"}}\n'
                for at, of in (("a/0", "cat"), ("c/1", "dog"), ("a/7", "cat"))
            ),
        ),
    ],
)
def test_files_of_ones_own(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    classes, labels = LabelFile.read(tmp_path / name).classes(source(PATHS))
    assert classes == ["cat", "dog"] and labels.tolist() == [0, -1, 1, 0]


def test_images_that_were_left_out_may_be_named(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("path,label\ntrain/a/0.png,1\nbroken.png,2\n")
    file = LabelFile.read(tmp_path / "labels.csv")
    classes, labels = file.classes(source(PATHS), ["broken.png"])
    assert classes == ["1"] and labels.tolist() == [0, -1, -1, -1]
    with pytest.raises(UserError, match=r"^labels=.*no such image: path broken\.png; paths are written as train/a/0"):
        file.classes(source(PATHS))


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.json", "[1, 2]", "says of no image which class it has"),
        ("a.json", '{"a.png": [1]}', r'entry 1 has no path or no label: \["a.png", \[1\]\]'),
        ("a.json", '[{"id": 0, "label": 1}, {"id": 1}]', r"entry 2 has no id or no label"),
        ("a.json", "{", "is not JSON"),
        ("a.jsonl", '{"id": 0, "label": 1}\n{"id": 0, "label": 2}\n', "id 0 is in it twice"),
        ("a.csv", "path,label\n", "names no image"),
    ],
)
def test_mistakes_in_files_of_ones_own(name: str, text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=rf"^labels=.*{words}") as raised:
        LabelFile.read(tmp_path / name)
    assert "\n" not in str(raised.value)


def test_labels_do_not_change_which_images_these_are(tmp_path: Path) -> None:
    images = source(PATHS)
    before = images.fingerprint()
    images.relabel(["x"], np.zeros(4, dtype=np.int64))
    assert images.fingerprint() == before and images.labels.tolist() == [0] * 4 and images.classes == ["x"]
