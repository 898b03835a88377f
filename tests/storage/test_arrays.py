"""Arrays on disk: no more room than the file has bytes, and numbers alone."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from memlight.storage import arrays
from memlight.storage.arrays import map_npy, read_npz


def npy(header: str, data: bytes = b"") -> bytes:
    text = header.encode().ljust(118) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


def zipped(path: Path, content: bytes, compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("a.npy", content)
    return path


def test_arrays_come_back(tmp_path: Path) -> None:
    saved = {
        "floats": np.arange(6.0).reshape(2, 3).T,
        "words": np.array(["a", "bc"]),
        "none": np.zeros((0, 3), np.float32),
        "one": np.array(True),
        "text": np.array("x" * 100),
    }
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", **saved)
        found = read_npz(tmp_path / "a.npz")
        assert found.keys() == saved.keys()
        for name, array in saved.items():
            assert found[name].dtype == array.dtype and np.array_equal(found[name], array)
    for array in saved.values():
        np.save(tmp_path / "a.npy", array)
        assert np.array_equal(map_npy(tmp_path / "a.npy"), array)
    assert list(read_npz(tmp_path / "a.npz", ("one",))) == ["one"]


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,)}", "claims 8000000000000 bytes"),
        ("{'descr': '<f8', 'fortran_order': False, 'shape': (-1,)}", "shape"),
        ("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", "only numbers"),
        ("{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (1,)}", "only numbers"),
        ("{'descr': '<f8', 'fortran_order': False, 'shape': (" + "(" * 60, "not an array"),
        ("{'descr': '<f8'}", "not an array"),
    ],
)
def test_a_header_is_compared_with_the_file(tmp_path: Path, header: str, words: str) -> None:
    (tmp_path / "a.npy").write_bytes(npy(header, bytes(64)))
    with pytest.raises(ValueError, match=words):
        map_npy(tmp_path / "a.npy")
    with pytest.raises(ValueError, match=words):
        read_npz(zipped(tmp_path / "a.npz", npy(header, bytes(64))))


def test_what_is_compressed_may_not_be_a_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "INFLATED_BYTES", 1 << 20)
    np.savez_compressed(tmp_path / "a.npz", a=np.zeros(1 << 20))
    with pytest.raises(ValueError, match="so much is not unpacked; unpack it by hand"):
        read_npz(tmp_path / "a.npz")


def test_damaged_files_are_one_error(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", a=np.arange(100))
    whole = (tmp_path / "a.npz").read_bytes()
    for damaged in (whole[:200], b"", whole.replace(b"\x63\0", b"\x64\0", 1), b"PK\5\6" + bytes(18)):
        (tmp_path / "b.npz").write_bytes(damaged)
        with pytest.raises(ValueError):
            read_npz(tmp_path / "b.npz", ("a",))
    with pytest.raises(ValueError, match="has no array b"):
        read_npz(tmp_path / "a.npz", ("a", "b"))
    twice = io.BytesIO()
    with zipfile.ZipFile(twice, "w") as archive:
        archive.writestr("a.npy", b"1")
        archive.writestr("a", b"2")
    (tmp_path / "c.npz").write_bytes(twice.getvalue())
    with pytest.raises(ValueError, match="two of its arrays have one name"):
        read_npz(tmp_path / "c.npz")
