"""Shards on disk: whole or absent, of one kind, and read back in any order."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from memlight.errors import UserError
from memlight.storage.shards import FeatureStore, FeatureWriter
from memlight.storage.store import MANIFEST
from memlight.storage.writing import readable

IDS = np.array([3, 5, 8, 13, 21, 34, 55])
LABELS = IDS % 4 - 1
SHAPES = {"conv/1": (2, 3, 3), "blocks.0.norm2@in": (5,)}
MADE_FROM = {"encoder_sha256": "ab", "view_set": {"name": "clean", "size": 8}, "views": 0}


def features(layer: str) -> np.ndarray:
    rng = np.random.default_rng(len(layer))
    return rng.normal(size=(len(IDS), *SHAPES[layer])).astype(np.float16)


def writer(root: Path, **changed: object) -> FeatureWriter:
    return FeatureWriter(root, MADE_FROM | changed, SHAPES, "float16", IDS, LABELS, shard_size=3)


def fill(store: FeatureWriter, shard: int, batch: int = 2) -> None:
    rows = store.layout.images_of(shard)
    with store.features(shard) as files:
        for start in range(rows.start, rows.stop, batch):
            for layer in SHAPES:
                files[layer].append(features(layer)[start : min(start + batch, rows.stop)])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    store = writer(tmp_path / "store")
    store.begin()
    for shard in store.layout.missing():
        fill(store, shard)
    return tmp_path / "store"


def test_what_was_written_is_read_in_any_order(root: Path) -> None:
    store = FeatureStore(root)
    assert store.layers == list(SHAPES)
    assert np.array_equal(store.ids, IDS) and np.array_equal(store.labels, LABELS)
    assert len(store) == 7 and store.manifest["encoder_sha256"] == "ab"
    for layer in SHAPES:
        expected, array = features(layer), store[layer]
        assert (array.shape, array.dtype, len(array)) == (expected.shape, np.float16, 7)
        mask = np.array([True, False, True, True, False, False, True])
        for rows in (4, -1, slice(None), slice(5, 1, -2), [6, 0, 3, 3], mask, np.array([], dtype=int)):
            np.testing.assert_array_equal(array[rows], expected[rows])
        np.testing.assert_array_equal(np.asarray(array), expected)
        np.testing.assert_array_equal(store.read(layer), expected)
        np.testing.assert_array_equal(store.read(layer, [55, 3, 13]), expected[[6, 0, 3]])
    with pytest.raises(IndexError):
        store["conv/1"][7]
    for absent in (4, 99):
        with pytest.raises(ValueError, match=f"id {absent} is not in"):
            store.read("conv/1", [3, absent])
    with pytest.raises(KeyError, match=r"conv/2: no such layer in .*; it has conv/1, blocks"):
        store["conv/2"]


def test_numpy_reads_the_files_alone_and_their_size_was_foretold(root: Path) -> None:
    np.testing.assert_array_equal(np.load(root / "conv%2F1" / "00001.npy"), features("conv/1")[3:6])
    np.testing.assert_array_equal(np.load(root / "blocks.0.norm2@in" / "00002.npy"), features("blocks.0.norm2@in")[6:])
    layout = writer(root).layout
    headers = 128 * 4 * 3
    assert sum(path.stat().st_size for path in root.rglob("*.npy")) == layout.bytes_of(range(3)) + headers


@pytest.mark.parametrize("damage", ["gone", "cut short", "empty", "ids gone", "another type"])
def test_a_shard_that_is_not_whole_is_written_again_and_no_other(root: Path, damage: str) -> None:
    path = root / "ids-00001.npy" if damage == "ids gone" else root / "conv%2F1" / "00001.npy"
    whole = path.read_bytes()
    if damage == "another type":
        np.save(path, features("conv/1")[3:6].astype(np.float32))
    elif damage in ("cut short", "empty"):
        path.write_bytes(whole[: -1 if damage == "cut short" else 0])
    else:
        path.unlink()
    with pytest.raises(UserError, match="1 of 3 shards are missing; type the command"):
        FeatureStore(root)
    others = {p: p.stat().st_mtime_ns for p in root.rglob("*.npy") if "00001" not in p.name}
    again = writer(root)
    assert again.layout.missing() == [1]
    fill(again, 1)
    assert path.read_bytes() == whole
    assert {p: p.stat().st_mtime_ns for p in others} == others
    assert again.layout.missing() == []


def test_an_interrupted_shard_leaves_nothing_and_a_killed_one_is_swept_up(root: Path) -> None:
    shutil.rmtree(root)
    store = writer(root)
    store.begin()
    with pytest.raises(KeyboardInterrupt), store.features(0) as files:
        files["conv/1"].append(features("conv/1")[:2])
        raise KeyboardInterrupt
    assert [path.name for path in root.rglob("*") if path.is_file()] == [MANIFEST]
    with pytest.raises(ValueError, match=r"shard 0: 2 of 3 rows of conv%2F1/\*.npy"), store.features(0) as files:
        files["conv/1"].append(features("conv/1")[:2])
    left = root / "conv%2F1" / ".4711.00000.npy"
    left.write_bytes(b"half")
    writer(root).begin()
    assert not left.exists()
    assert store.layout.missing() == [0, 1, 2]


def test_a_directory_belongs_to_one_set_of_features(root: Path, tmp_path: Path) -> None:
    assert writer(root).layout.missing() == []
    for changed, words in (
        ({"encoder_sha256": "cd"}, "encoder_sha256: ab, now cd"),
        ({"view_set": {"name": "clean", "size": 9}}, "view_set.size: 8, now 9"),
        ({"seed": 1}, "seed: None, now 1"),
    ):
        with pytest.raises(UserError, match=rf"^out=.*holds other features \({words}\)"):
            writer(root, **changed)
    with pytest.raises(UserError, match=r"layers\.conv/1: "):
        FeatureWriter(root, MADE_FROM, {"conv/1": (2, 3)}, "float16", IDS, LABELS, 3)
    with pytest.raises(UserError, match="shard_size: 3, now 4"):
        FeatureWriter(root, MADE_FROM, SHAPES, "float16", IDS, LABELS, 4)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").touch()
    with pytest.raises(UserError, match="holds something else; name a new directory"):
        writer(tmp_path / "notes")
    with pytest.raises(UserError, match="is a file, not a directory; choose another `out`"):
        writer(tmp_path / "notes" / "mine.txt")
    with pytest.raises(UserError, match=r"^root=.*no features here"):
        FeatureStore(tmp_path / "notes")
    (root / MANIFEST).write_text("{")
    with pytest.raises(UserError, match=r"^root: .*manifest.json cannot be read"):
        FeatureStore(root)
    (root / MANIFEST).write_text('{"format": 2}')
    with pytest.raises(UserError, match="another version"):
        FeatureStore(root)


def test_room_is_asked_for_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = writer(tmp_path / "new" / "store")
    store.require_room([0, 1, 2])
    needed = store.layout.bytes_of([0, 1, 2])
    assert needed == 7 * ((18 + 5) * 2 + 16)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=needed - 1))
    with pytest.raises(UserError, match=r"^out=.*434 bytes are needed and 433 bytes are free; choose fewer `layers`"):
        store.require_room([0, 1, 2])
    store.require_room([0, 1])
    assert not (tmp_path / "new").exists()


def test_a_full_disk_is_one_line_and_leaves_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(root)
    store = writer(root)
    store.begin()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("memlight.storage.tables.os.fsync", full)
    with pytest.raises(UserError, match=r"^out: .*cannot be written \(.*No space left on device\)"):
        fill(store, 0)
    assert not list(root.rglob("*.npy"))


def test_sizes_are_readable() -> None:
    assert [readable(size) for size in (0, 999, 1234, 5.5e6, 1.2e12, 9e15)] == [
        *("0 bytes", "999 bytes", "1.23 kB", "5.5 MB", "1.2 TB", "9e+03 TB")
    ]
