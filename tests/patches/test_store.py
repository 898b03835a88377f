import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from memlight.errors import UserError
from memlight.patches.store import PatchStore, PatchWriter, names_sha256, open_store

GRID, DIM = 2, 5
NAMES = [f"{i}.png" for i in range(7)]
VALUES = np.random.default_rng(0).standard_normal((7 * GRID**2, DIM)).astype(np.float16)


def writer(root: Path, images: Path, **extraction: object) -> PatchWriter:
    return PatchWriter(
        root,
        {"extractor": "none", "picture_size": [6, 8], **extraction},
        {"images": 7, "names_sha256": names_sha256(NAMES)},
        {"torch": "0"},
        images=str(images),
        names=NAMES,
        grid=GRID,
        dim=DIM,
        dtype="float16",
        shard_size=3,
    )


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    pixels = np.random.default_rng(1)
    for name in NAMES:
        Image.fromarray(pixels.integers(0, 256, (6, 8, 3), dtype=np.uint8)).save(folder / name)
    return folder


def filled(root: Path, images: Path, **extraction: object) -> Path:
    made = writer(root, images, **extraction)
    made.begin()
    for shard, ids in enumerate(((0, 3), (3, 6), (6, 7))):
        made.write(shard, VALUES[ids[0] * 4 : ids[1] * 4])
    return root


@pytest.fixture
def store(tmp_path: Path, images: Path) -> PatchStore:
    return open_store(filled(tmp_path / "store", images))


def test_rows_of_any_shard_in_any_order(store: PatchStore) -> None:
    wanted = np.array([27, 0, 13, 13, 11, 12, 24])
    assert (store.num_images, store.num_rows, store.patches, store.dim) == (7, 28, 4, 5)
    assert [(shard.first_row, shard.rows) for shard in store.shards] == [(0, 12), (12, 12), (24, 4)]
    np.testing.assert_array_equal(store.rows(wanted), VALUES[wanted].astype(np.float32))
    assert store.rows(wanted).dtype == np.float32
    np.testing.assert_array_equal(np.concatenate([store.shard(i) for i in range(3)]), VALUES)
    assert isinstance(store.shard(1), np.memmap)


@pytest.mark.parametrize("row", [-1, 28])
def test_rows_that_are_not_there(store: PatchStore, row: int) -> None:
    with pytest.raises(IndexError, match=f"has 28 rows, and row {row}"):
        store.rows([0, row])


def test_the_picture_of_an_id(store: PatchStore, images: Path) -> None:
    np.testing.assert_array_equal(store.image(4), np.asarray(Image.open(images / "4.png")))
    (images / "5.png").unlink()
    with pytest.raises(UserError, match=r"5\.png cannot be read from .* any more"):
        store.image(5)


def test_images_that_moved(store: PatchStore, images: Path) -> None:
    images.rename(images.with_name("elsewhere"))
    with pytest.raises(UserError, match=r"are not at .* any more"):
        store.image(0)
    moved = open_store(store.root, images=str(images.with_name("elsewhere")))
    assert moved.image(0).shape == (6, 8, 3)


def test_ids_count_without_broken_images(tmp_path: Path, images: Path) -> None:
    made = writer(tmp_path / "store", images)
    made.begin()
    made.write(0, VALUES[:8], ["1.png"])
    made.write(1, VALUES[:0], ["3.png", "4.png", "5.png"])
    made.write(2, VALUES[24:])
    store = open_store(tmp_path / "store", verify="full")
    assert list(store.names) == ["0.png", "2.png", "6.png"]
    assert store.skipped == ["1.png", "3.png", "4.png", "5.png"]
    np.testing.assert_array_equal(store.rows([7, 8]), VALUES[[7, 24]].astype(np.float32))
    np.testing.assert_array_equal(store.image(2), np.asarray(Image.open(images / "6.png")))


def test_a_changed_byte_is_found_when_everything_is_read(store: PatchStore) -> None:
    path = store.shards[1].path
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    open_store(store.root)
    with pytest.raises(UserError, match=r"00001\.npy is damaged .*delete it"):
        open_store(store.root, verify="full")


@pytest.mark.parametrize("name", ["00001.npy", "00001.json"])
def test_a_missing_part_of_a_shard(store: PatchStore, name: str) -> None:
    (store.root / name).unlink()
    with pytest.raises(UserError, match=r"1 of 3 shards are missing; type the command"):
        open_store(store.root)


def test_a_shard_cut_short_is_missing(store: PatchStore) -> None:
    path = store.shards[0].path
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(UserError, match="1 of 3 shards are missing"):
        open_store(store.root)


def test_no_store(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no patches here .*patches extract"):
        open_store(tmp_path)


def test_another_version_is_refused(store: PatchStore) -> None:
    manifest = store.root / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"format": 1', '"format": 0'))
    with pytest.raises(UserError, match="another version"):
        open_store(store.root)


def test_stores_made_in_two_ways_are_not_compared(store: PatchStore, tmp_path: Path, images: Path) -> None:
    store.require_comparable(open_store(filled(tmp_path / "same", images)))
    other = open_store(filled(tmp_path / "other", images, mode="crop"))
    with pytest.raises(UserError, match=r"another way than those of .*other \(mode: crop, now None\)"):
        store.require_comparable(other)


def test_rows_of_another_shape_are_refused(tmp_path: Path, images: Path) -> None:
    made = writer(tmp_path / "store", images)
    made.begin()
    with pytest.raises(ValueError, match="shard 0: 11 of 12 rows"):
        made.write(0, VALUES[:11])
    with pytest.raises(ValueError, match="float64"):
        made.write(0, VALUES[:12].astype(np.float64))


def test_a_directory_with_something_else_is_left_alone(tmp_path: Path, images: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "thesis.tex").write_text("")
    with pytest.raises(UserError, match="holds something else"):
        writer(tmp_path / "store", images)


def test_other_flags_are_refused(store: PatchStore, images: Path) -> None:
    with pytest.raises(UserError, match=r"holds other patches \(extraction.mode: None, now crop\)"):
        writer(store.root, images, mode="crop")


def test_a_full_disk_is_noticed_before(tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = writer(tmp_path / "store", images)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=100))
    made.require_room([2])
    with pytest.raises(UserError, match="280 bytes are needed and 100 bytes are free"):
        made.require_room(made.layout.missing())


def test_names_in_another_order_are_refused(tmp_path: Path, images: Path) -> None:
    root = filled(tmp_path / "store", images)
    listed = json.loads((root / "images.json").read_text())
    listed["names"][:2] = listed["names"][1::-1]
    (root / "images.json").write_text(json.dumps(listed))
    with pytest.raises(UserError, match="names other images, or in another order, than the patches are of"):
        open_store(root)
