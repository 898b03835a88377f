"""Files of torch.save and pickles: what they hold comes back, and what they claim is not believed."""

import argparse
import gc
import io
import os
import pickle
import zipfile
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from memlight.analyses.sequence.reader import read_authors_results
from memlight.errors import UserError
from memlight.storage.strangers import Refused
from memlight.storage.torch_files import Unreadable, load_torch, read_torch

CONTENT: dict[Any, Any] = {
    "transposed": torch.arange(6.0).reshape(2, 3).T,
    "empty": torch.zeros(0, 3),
    "scalar": torch.tensor(1),
    "shared": (base := torch.arange(10))[2:5],
    "base": base,
    "expanded": torch.arange(3).expand(2, 3),
    **{str(kind): torch.ones(3).to(kind) for kind in (torch.bfloat16, torch.float8_e4m3fn, torch.uint16, torch.bool)},
    "complex": torch.ones(2, dtype=torch.complex64),
    "parameter": torch.nn.Parameter(torch.ones(2)),
    "array": np.arange(6, dtype=np.int16).reshape(2, 3).T,
    "order": np.arange(24).reshape(2, 3, 4).transpose(1, 0, 2),
    "words": np.array(["x", "yy"]),
    "number": np.float32(0.5),
    "counts": defaultdict(int, {"a": 1}),
    "counter": Counter({"a": 2}),
    "ordered": OrderedDict(a=1),
    "options": argparse.Namespace(x=(1, {2}, None)),
    "device": torch.device("cpu"),
    "size": torch.Size([1, 2]),
    "bytes": b"zz",
    "bytearray": bytearray(b"x"),
    "imaginary": 1j,
    "frozen": frozenset({1, (2, 3)}),
    3: None,
}


def assert_same(found: Any, expected: Any) -> None:
    assert type(found) is type(expected)
    if isinstance(expected, torch.Tensor):
        wide = torch.complex64 if expected.is_complex() else torch.float32
        assert found.dtype == expected.dtype and torch.equal(found.to(wide), expected.to(wide))
    elif isinstance(expected, np.ndarray):
        assert found.dtype == expected.dtype and np.array_equal(found, expected)
    elif isinstance(expected, dict):
        assert list(found) == list(expected)
        for key in expected:
            assert_same(found[key], expected[key])
    else:
        assert found == expected


@pytest.mark.parametrize("protocol", range(2, 6))
def test_everything_comes_back(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "file"
    for zipped in (True, False):
        torch.save(CONTENT, path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
        assert_same(load_torch(path), CONTENT)
    path.write_bytes(pickle.dumps(CONTENT, protocol))
    assert_same(load_torch(path), CONTENT)


def test_state_dictionaries_keep_their_metadata_and_their_storages(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / "a.pth")
    assert load_torch(tmp_path / "a.pth")._metadata == {"": {"version": 1}}
    torch.save(CONTENT, tmp_path / "b.pth")
    found = load_torch(tmp_path / "b.pth")
    assert found["shared"].untyped_storage().data_ptr() == found["base"].untyped_storage().data_ptr()


class Call:
    """Pickles as a call."""

    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call


RECONSTRUCT = np.array(1).__reduce__()[0]
SCALAR = np.float64(0).__reduce__()[0]
FORGED = {
    "pointers": Call(np.ndarray, ((1,), "O", bytearray(b"\x41" * 8))),
    "scalar": Call(SCALAR, (np.dtype("O"), b"\x41" * 8)),
    "state": Call(RECONSTRUCT, (np.ndarray, (0,), b"b"), (1, (2,), np.dtype("O"), False, b"\x41" * 16)),
    "records": Call(RECONSTRUCT, (np.ndarray, (0,), b"b"), (1, (1,), np.dtype([("a", "O")]), False, b"\x41" * 8)),
    "long": Call(RECONSTRUCT, (np.ndarray, (0,), b"b"), (1, (2**40,), np.dtype("f8"), False, b"\x41" * 8)),
    "bytes": Call(bytearray, (2**40,)),
    "list": Call(list, ("x" * 10,)),
    "words": Call(str, (1,)),
    "code": Call(os.getcwd, ()),
}


@pytest.mark.parametrize("name", FORGED)
def test_forged_arrays_are_refused_and_crash_nothing(tmp_path: Path, name: str) -> None:
    torch.save({"state_dict": {"w": torch.zeros(2)}, "x": FORGED[name]}, tmp_path / "zip.pth")
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps({"logs": [FORGED[name]]}))
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises((Refused, Unreadable)):
            load_torch(path)


def test_pointers_of_a_file_are_not_followed_in_a_process_of_its_own(tmp_path: Path) -> None:
    """Whatever the file does, it does to the child, whose death would be a failure here."""
    child = os.fork()
    if child == 0:
        read = 0
        for name, forged in FORGED.items():
            (tmp_path / name).write_bytes(pickle.dumps({"args": {}, "logs": [forged], "model": {}}))
            try:
                repr(read_authors_results(tmp_path / name))
            except UserError:
                read += 1
        gc.collect()
        os._exit(0 if read == len(FORGED) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def nested(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


def repeated() -> object:
    value: object = ()
    for _ in range(40):
        value = [value, value]
    return value


def endless() -> object:
    value: dict[str, object] = {}
    value["self"] = value
    return value


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (pickle.dumps(nested(200)), "nest deeper"),
        (pickle.dumps(repeated()), "repeat one another"),
        (pickle.dumps(endless()), "it holds itself"),
        (b"\x80\x02})" + b"2\x86" * 40 + b"K\x01s.", "key of a dictionary is too large"),
        (b"\x80\x04\x96" + (2**62).to_bytes(8, "little") + b".", "the file ends before"),
        (b"\x80\x04\x8e" + (2**40).to_bytes(8, "little") + b".", "the file ends before"),
        (b"\x80\x02r\xff\xff\xff\x7f.", "truncated"),
        (b"", "truncated"),
        (b"hello\n" * 100, "truncated"),
        (pickle.dumps(CONTENT)[:-50], "truncated"),
    ],
)
def test_no_room_and_no_time_for_what_a_pickle_claims(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "a.pkl").write_bytes(data)
    with pytest.raises(Unreadable, match=words):
        load_torch(tmp_path / "a.pkl")


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (torch.eye(3).to_sparse(), "a sparse tensor"),
        (torch.empty(3, device="meta"), "meta device"),
        (torch.ones(2, dtype=torch.complex64).conj(), "conjugate"),
    ],
)
def test_tensors_without_dense_numbers_are_refused(tmp_path: Path, tensor: torch.Tensor, words: str) -> None:
    torch.save({"w": tensor}, tmp_path / "a.pth")
    with pytest.raises(Unreadable, match=words):
        load_torch(tmp_path / "a.pth")


def rewritten(path: Path, change: Callable[[str, bytes], bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    out = io.BytesIO()
    with zipfile.ZipFile(path) as before, zipfile.ZipFile(out, "w", compression) as after:
        for name in before.namelist():
            after.writestr(name, change(name, before.read(name)))
    path.write_bytes(out.getvalue())
    return path


def test_a_zip_is_compared_with_what_it_claims(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save({"w": torch.arange(1000.0)}, path)
    whole = path.read_bytes()
    with pytest.raises(Unreadable, match=r"torch\.save compresses nothing, so it is not unpacked: zip it again"):
        load_torch(rewritten(path, lambda name, data: data, zipfile.ZIP_DEFLATED))
    path.write_bytes(whole)
    with pytest.raises(Unreadable, match="a storage of 4000 bytes in 3999"):
        load_torch(rewritten(path, lambda name, data: data[:-1] if name.endswith("data/0") else data))
    at = whole.index(np.float32(500).tobytes())
    path.write_bytes(whole[:at] + b"\xff" + whole[at + 1 :])
    with pytest.raises(Unreadable, match=r"data/0 is damaged \(its checksum differs\)"):
        load_torch(path)
    for cut in (len(whole) // 2, len(whole) - 30):
        path.write_bytes(whole[:cut])
        with pytest.raises(Unreadable, match="truncated"):
            load_torch(path)


def test_a_tensor_is_not_larger_than_its_storage(tmp_path: Path) -> None:
    for zipped in (True, False):
        torch.save({"w": torch.arange(5.0)}, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
        data = (tmp_path / "a.pth").read_bytes()
        if zipped:
            rewritten(tmp_path / "a.pth", lambda name, data: data.replace(b"K\x05\x85", b"K\x99\x85"))
        else:
            (tmp_path / "a.pth").write_bytes(data.replace(b"K\x05\x85", b"K\x99\x85"))
        with pytest.raises(Unreadable, match=r"a tensor of shape \(153,\) in a storage of 5 numbers"):
            load_torch(tmp_path / "a.pth")


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pth")
    for path, words in (
        (tmp_path / "pipe.pth", "a named pipe"),
        (tmp_path, "a directory"),
        (tmp_path / "x", "no such"),
    ):
        with pytest.raises(UserError, match=f"weights={path}: {words}"):
            read_torch(path, "weights", [])
