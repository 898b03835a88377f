"""Images in tables: Parquet files, what save_to_disk wrote, and names of Hugging Face (here: a local folder)."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from memlight.data import ImageDataModule
from memlight.data.datasets import open_sources
from memlight.data.places import exists, name_of, open_images, place_of
from tests.said import refused

CLASSES = ["ship", "car", "bee"]


def picture(number: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(number).integers(0, 256, (6, 8, 3), dtype=np.uint8)


def png(number: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture(number)).save(file, "png")
    return file.getvalue()


def table(numbers: range, *, names: bool = True, labelled: bool = True) -> Any:
    datasets = pytest.importorskip("datasets")
    features = {
        "image": datasets.Image(),
        "label": datasets.ClassLabel(names=CLASSES),
        "note": datasets.Value("string"),
    }
    rows = {
        "image": [{"bytes": png(i), "path": f"{i:04}.png" if names else None} for i in numbers],
        "label": [i % 3 if labelled else -1 for i in numbers],
        "note": ["x" for _ in numbers],
    }
    return datasets.Dataset.from_dict(rows, features=datasets.Features(features))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()


def parquet(place: Path) -> Path:
    (place / "data").mkdir(parents=True)
    table(range(5)).to_parquet(place / "data/train-00000-of-00002.parquet")
    table(range(5, 9)).to_parquet(place / "data/train-00001-of-00002.parquet")
    table(range(9, 12)).to_parquet(place / "data/validation-00000-of-00001.parquet")
    return place


def saved(place: Path) -> Path:
    datasets = pytest.importorskip("datasets")
    datasets.DatasetDict({"train": table(range(9)), "validation": table(range(9, 12))}).save_to_disk(place)
    return place


@pytest.mark.parametrize("make", [parquet, saved])
@pytest.mark.parametrize("memory_limit_gb", [0.0, 4.0])
def test_images_and_classes_are_those_of_the_table(make: Any, memory_limit_gb: float, tmp_path: Path) -> None:
    place = make(tmp_path / "pets")
    train, test = open_sources("auto", str(place), memory_limit_gb=memory_limit_gb)
    assert (train.name, train.size, train.classes) == ("pets", (6, 8), CLASSES)
    assert train.labels.tolist() == [i % 3 for i in range(9)] and test.labels.tolist() == [0, 1, 2]
    for source, first in ((train, 0), (test, 9)):
        for number, image in enumerate(source.read(range(len(source)))):
            assert np.array_equal(image.permute(1, 2, 0).numpy(), picture(first + number))
    assert train.facts == (
        "images: 9 in train to train on, 3 in validation to test on",
        "labels: 3 classes in the table",
    )
    assert train.names[0].startswith("train/") and len(set(train.names + test.names)) == 12


def test_the_same_names_whatever_holds_them(tmp_path: Path) -> None:
    listings = [open_images(str(make(tmp_path / make.__name__)))[1] for make in (parquet, saved)]
    assert listings[0].names[4] == "train/0004.png"
    assert len({listing.fingerprint() for listing in listings}) == 1


def test_a_name_of_hugging_face_and_the_error_without_a_network(tmp_path: Path) -> None:
    place = parquet(tmp_path / "org" / "pets")
    data = ImageDataModule(f"hf:{place}", num_shared=3, num_candidate=3, num_independent=3, num_external=3)
    data.setup()
    assert data.classes == CLASSES and data.split.dataset.startswith("pets ")
    other = ImageDataModule("auto", f"hf:{place}", num_shared=3, num_candidate=3, num_independent=3, num_external=3)
    other.setup()
    assert other.split.sha256 == data.split.sha256
    with refused(
        r"^--root hf:nobody/nothing: datasets cannot read it \(.*\); check its name, or without a network, save"
    ):
        open_images("hf:nobody/nothing")
    assert exists("hf:org/pets") and place_of("hf:org/pets") == "hf:org/pets" and name_of("hf:org/pets") == "pets"


def test_one_parquet_file_without_names_of_images(tmp_path: Path) -> None:
    table(range(4), names=False).to_parquet(tmp_path / "some.parquet")
    files, train, test = open_images(str(tmp_path / "some.parquet"))
    assert train.names == [f"images/{i}" for i in range(4)] and not test.names
    assert files.read("images/2") == png(2) and files.size("images/2") == len(png(2))
    assert files.where("images/2").endswith("some.parquet:images/2")


def test_parquet_files_of_another_program(tmp_path: Path) -> None:
    pyarrow, parquet = (pytest.importorskip(name) for name in ("pyarrow", "pyarrow.parquet"))
    rows = pyarrow.table({"jpg": [png(0), png(1), None], "cls": [4, 12, 4]})
    parquet.write_table(rows, tmp_path / "a.parquet")
    files, train, _ = open_images(str(tmp_path / "a.parquet"))
    assert (train.classes, train.labels) == (["4", "12"], [0, 1, 0])
    with pytest.warns(UserWarning, match="1 of 3 images are broken and left out"):
        source, _ = open_sources("auto", str(tmp_path / "a.parquet"), on_error="skip")
    assert len(source) == 2
    with pytest.raises(ValueError, match="no image in this row"):
        files.read(train.names[2])


def test_a_part_without_labels_and_one_of_neither_half(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    parts = {"train": table(range(3)), "test": table(range(3, 6), labelled=False), "extra": table(range(6, 8))}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "set")
    _, train, test = open_images(str(tmp_path / "set"))
    assert (train.labels, test.labels) == ([0, 1, 2], [-1] * 3)
    assert "left out: the parts extra" in train.facts


def test_a_table_without_images_is_refused(tmp_path: Path) -> None:
    pyarrow, parquet = (pytest.importorskip(name) for name in ("pyarrow", "pyarrow.parquet"))
    parquet.write_table(pyarrow.table({"text": ["a"], "label": [1]}), tmp_path / "a.parquet")
    with refused(r"^--root .*a\.parquet: no column of images; it has text, label; name the column of images image"):
        open_images(str(tmp_path / "a.parquet"))
    (tmp_path / "b.parquet").write_bytes(b"PAR1" + b"\0" * 100 + b"PAR1")
    with refused(r"^--root .*b\.parquet: datasets cannot read it \("):
        open_images(str(tmp_path / "b.parquet"))
