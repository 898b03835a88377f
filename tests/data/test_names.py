"""``images.csv`` of a run: every image with its path, label, split and the hash of its pixels."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from memlight.data.datasets import open_sources
from memlight.data.images import ImageDataModule
from memlight.data.names import names_of, write_images
from memlight.data.sources import FileSource, JoinedSource
from memlight.data.splits import PairSplit
from memlight.storage.image_names import IMAGES, ImageNames
from memlight.storage.rundir import RunDir
from memlight.storage.tables import read_table


def folder(root: Path, count: int = 3) -> Path:
    rng = np.random.default_rng(0)
    for half in ("train", "test"):
        for name in ("cat", "dog"):
            (root / half / name).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / half / name / f"{number}.png")
    return root


def opened(root: Path, gb: float = 4.0) -> JoinedSource:
    return JoinedSource(*open_sources("folder", str(root), memory_limit_gb=gb))


def dealt(source: JoinedSource) -> PairSplit:
    return PairSplit.make(len(source.train), len(source.test), shared=2, candidate=2, independent=1, external=2)


@pytest.mark.parametrize("in_memory", [True, False])
def test_every_image_is_listed(tmp_path: Path, in_memory: bool) -> None:
    source = opened(folder(tmp_path / "data"), 4.0 if in_memory else 1e-9)
    split, run = dealt(source), RunDir(tmp_path / "run")
    write_images(run, source, split)
    table = read_table(run.images, IMAGES)
    assert table["id"].tolist() == list(range(12))
    assert table["path"].tolist()[:4] == ["train/cat/0.png", "train/cat/1.png", "train/cat/2.png", "train/dog/0.png"]
    assert table["path"][6] == "test/cat/0.png" and table["label"].tolist() == [0, 0, 0, 1, 1, 1] * 2
    for name in ("shared", "candidate", "independent", "external"):
        assert np.array_equal(np.flatnonzero(table["split"] == name), split.ids(name))
    assert (table["split"] == "").sum() == 12 - 7
    if in_memory:
        pixels = source.read([7])[0].numpy().tobytes()
        assert table["sha256"][7] == hashlib.sha256(pixels).hexdigest() and len(set(table["sha256"])) == 12
    else:
        assert isinstance(source.train, FileSource) and set(table["sha256"]) == {""}  # hashing would read them all


def test_images_of_a_named_data_set_are_called_by_their_place() -> None:
    names = names_of(JoinedSource(*open_sources("digits", None)))
    assert (names.paths[17], names.paths[1497], names.paths[1498]) == ("train/17", "test/0", "test/1")
    assert not names.are_files


def test_training_writes_it_with_the_splits_and_leaves_it_alone_after_that(tmp_path: Path) -> None:
    options = {"num_shared": 2, "num_candidate": 2, "num_independent": 1, "num_external": 2, "batch_size": 2}
    root, run = str(folder(tmp_path / "data")), RunDir(tmp_path / "run")
    ImageDataModule("folder", root, run=str(run.root), **options).setup()  # type: ignore[arg-type]
    assert run.splits.is_file() and (names := ImageNames.read(run.images)) is not None and len(names.paths) == 12
    run.images.unlink()
    ImageDataModule("folder", root, run=str(run.root), **options).setup()  # type: ignore[arg-type]
    assert not run.images.exists()  # the second member, and a trial run, find splits and change nothing


def test_names_of_bytes_and_lines_are_listed(tmp_path: Path) -> None:
    root = folder(tmp_path / "data")
    for name in (b"\xff\x80.png", b"two\nlines.png", b"=1+1.png"):
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "one.png")
        Path(str(root / "train" / "cat") + "/" + name.decode("utf-8", "surrogateescape")).write_bytes(
            (tmp_path / "one.png").read_bytes()
        )
    source = opened(root)
    run = RunDir(tmp_path / "run")
    write_images(run, source, dealt(source))
    read = ImageNames.read(run.images)
    assert read is not None and list(read.paths) == source.names and len(source.names) == 15


def test_hashes_do_not_depend_on_how_pixels_lie_in_memory(tmp_path: Path) -> None:
    source = opened(folder(tmp_path / "data"))
    write_images(RunDir(tmp_path / "a"), source, dealt(source))
    source.train.images = source.train.images.to(memory_format=torch.channels_last)  # type: ignore[attr-defined]
    write_images(RunDir(tmp_path / "b"), source, dealt(source))
    assert RunDir(tmp_path / "a").images.read_bytes() == RunDir(tmp_path / "b").images.read_bytes()
