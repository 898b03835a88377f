"""What a weights file may hold beside its tensors, and what its bytes say whatever its name says."""

import argparse
import collections
import datetime
import decimal
import enum
import functools
import os
import pathlib
import pickle
import random
import subprocess
import types
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.fabric.utilities.data import AttributeDict
from safetensors.torch import save_file
from torch import nn

from memlight.errors import UserError
from memlight.models.weight_files import read_record, read_tensors, read_weights


class Colour(enum.Enum):
    RED = 1


class Meter:
    """An object as trainings have them: with a state, with slots, made by a call."""

    def __init__(self) -> None:
        self.values = [1.0, torch.ones(2)]


class Slotted:
    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 3


class Numbers(list[int]):
    pass


class Named(dict[str, Any]):
    pass


class Pair(collections.namedtuple("Pair", "a b")):
    pass


class Keyword:
    def __new__(cls, *, value: int) -> "Keyword":
        return super().__new__(cls)

    def __getnewargs_ex__(self) -> tuple[tuple[()], dict[str, int]]:
        return (), {"value": 1}


class Made:
    """Made again by a call of something that would leave a trace."""

    def __reduce__(self) -> Any:
        return _leave_a_trace, ("x",)


def _leave_a_trace(where: str) -> None:
    raise AssertionError("it was called")


COMPANY: dict[str, Callable[[], Any]] = {
    "defaultdict": lambda: collections.defaultdict(list, {"a": [1]}),
    "defaultdict of a function": lambda: collections.defaultdict(_leave_a_trace, {"a": [1]}),
    "Counter": lambda: collections.Counter("ab"),
    "deque": lambda: collections.deque([1, 2], maxlen=3),
    "path": lambda: argparse.Namespace(out=pathlib.PurePosixPath("x"), of=[Path("y")]),
    "path as a key": lambda: {Path("a"): 1, "set": {Path("b")}},
    "numpy's random state": np.random.get_state,
    "numpy's generator": lambda: np.random.default_rng(0),
    "numpy's old generator": lambda: np.random.RandomState(0),
    "Python's random state": random.getstate,
    "torch's random state": torch.get_rng_state,
    "array of objects": lambda: np.array([{"a": 1}, None], dtype=object),
    "array of dates": lambda: np.array(["2024-01-01"], dtype="datetime64[D]"),
    "date of numpy": lambda: np.datetime64("2024-01-01"),
    "records": lambda: np.zeros(2, dtype=[("a", "f4"), ("b", "i4")]),
    "masked array": lambda: np.ma.masked_array([1, 2], mask=[True, False]),
    "Lightning's AttributeDict": lambda: AttributeDict(lr=0.1, inner=AttributeDict(a=1)),
    "omegaconf": lambda: pytest.importorskip("omegaconf").OmegaConf.create({"lr": 0.1, "list": [1, "${lr}"]}),
    "datetime": lambda: [datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC), datetime.timedelta(1)],
    "set, slice, complex": lambda: [{1, 2}, frozenset({3}), slice(1, 2), 1j, range(3), Ellipsis],
    "device, dtype, size": lambda: [torch.device("cpu"), torch.float16, torch.Size([2])],
    "enumeration": lambda: {Colour.RED: Colour.RED},
    "object": Meter,
    "object with slots": Slotted,
    "object with named arguments": lambda: Keyword(value=1),
    "list of a class": lambda: Numbers([1, 2]),
    "dictionary of a class": lambda: Named(a=1, b=Named(c=2)),
    "named tuple": lambda: Pair(1, 2),
    "object made by a call": Made,
    "functions": lambda: [_leave_a_trace, functools.partial(_leave_a_trace, 1), nn.functional.relu, Meter],
    "bound method": lambda: Meter().__init__,
    "sentinel": object,
    "loss": nn.CrossEntropyLoss,
    "network in the options": lambda: {"hyper_parameters": {"backbone": nn.Linear(2, 2)}},
    "optimizer": lambda: torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1),
    "uuid and decimal": lambda: [uuid.UUID(int=1), decimal.Decimal("1.5")],
    "simple namespace": lambda: types.SimpleNamespace(a=1),
    "error": lambda: ValueError("x"),
}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("company", COMPANY)
def test_harmless_company_is_left_out(company: str, zipped: bool, tmp_path: Path) -> None:
    weights = {"a.weight": torch.rand(2, 3), "a.bias": torch.rand(2)}
    saved = {"before": COMPANY[company](), "state_dict": weights, "after": COMPANY[company](), "last": torch.ones(1)}
    path = tmp_path / "x.ckpt"
    torch.save(saved, path, _use_new_zipfile_serialization=zipped)
    tensors = read_tensors(path)
    for name, tensor in weights.items():
        assert torch.equal(tensors[f"state_dict.{name}"], tensor)
    assert torch.equal(tensors["last"], torch.ones(1))
    assert read_record(path, "nothing") == {}


def test_a_state_dictionary_of_another_class_is_one(tmp_path: Path) -> None:
    torch.save({"model": Named({"w": torch.ones(2), "inner": Named({"b": torch.zeros(1)})})}, tmp_path / "x.pth")
    assert read_tensors(tmp_path / "x.pth").keys() == {"model.w", "model.inner.b"}


def test_state_dictionaries_in_a_list_are_numbered(tmp_path: Path) -> None:
    torch.save([{"w": torch.ones(2)}, {"w": torch.zeros(2)}], tmp_path / "x.pth")
    assert read_tensors(tmp_path / "x.pth").keys() == {"0.w", "1.w"}


class Call:
    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize(
    "call",
    [
        (os.system, ("true",)),
        (os.mkdir, ("made",)),
        (eval, ("1",)),
        (exec, ("1",)),
        (open, ("made", "w")),
        (__import__, ("os",)),
        (subprocess.Popen, (["true"],)),
        (pickle.loads, (b"N.",)),
        (np.ndarray, ((1,), "O", bytearray(8))),
        (np.array(1).__reduce__()[0], (np.ndarray, (0,), b"b"), (1, (2**40,), np.dtype("f8"), False, b"\x41" * 8)),
        (torch._utils._rebuild_wrapper_subclass, (1,)),
    ],
    ids=lambda call: call[0].__name__,
)
@pytest.mark.parametrize("zipped", [True, False, None])
def test_what_would_run_a_program_is_refused(
    call: tuple[Any, ...], zipped: bool | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    saved = {"state_dict": {"w": torch.ones(2)}, "x": [Call(*call)]}
    if zipped is None:
        Path("x.pth").write_bytes(pickle.dumps(saved))
    else:
        torch.save(saved, "x.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError) as caught:
        read_tensors(Path("x.pth"))
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["x.pth"]


@pytest.mark.parametrize(("saved", "steps"), [(lambda m: m, ""), (lambda m: {"epoch": 1, "model": m}, "['model']")])
def test_whole_models_are_refused_with_the_lines_that_convert_them(
    saved: Callable[[nn.Module], Any], steps: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model, path = nn.Sequential(nn.Linear(2, 2)), tmp_path / "whole.pt"
    torch.save(saved(model), path)
    with pytest.raises(UserError, match=r"a whole model, a torch\.nn\.modules\.container\.Sequential") as caught:
        read_tensors(path)
    lines = str(caught.value).split("run: ")[1].removesuffix(".").split("; ")
    assert len(lines) == 3
    assert f"weights_only=False){steps}" in lines[1]
    code = "\n".join(lines).replace("'weights.pth'", repr(str(tmp_path / "weights.pth")))
    exec(code, {})  # as the error says
    assert torch.equal(read_tensors(tmp_path / "weights.pth")["0.weight"], model[0].weight)


def test_bytes_tell_the_kind_of_a_file_and_not_its_name(tmp_path: Path) -> None:
    tensors = {"w": torch.rand(2, 3)}
    for name in ("a.bin", "a.pth", "a", "a.pt.safetensors.bin"):
        save_file(tensors, tmp_path / name, metadata={"memlight": '{"method": "dino"}'})
        assert torch.equal(read_tensors(tmp_path / name)["w"], tensors["w"])
        assert read_record(tmp_path / name, "memlight") == {"method": "dino"}
    for number, zipped in enumerate((True, False)):
        path = tmp_path / f"b{number}.safetensors"
        torch.save({**tensors, "memlight": {"method": "mae"}}, path, _use_new_zipfile_serialization=zipped)
        assert read_tensors(path).keys() == {"w"}
        assert read_record(path, "memlight") == {"method": "mae"}
    for content in (b"", b"{", b"\x02\x00\x00\x00\x00\x00\x00\x00{}", b"\xff" * 8 + b"{}", b"12345678{"):
        for name in ("c.safetensors", "c.pth"):
            (tmp_path / name).write_bytes(content)
            with pytest.raises(UserError):
                read_tensors(tmp_path / name)


def test_what_is_left_out_is_not_kept(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(2), "meter": Meter(), "model": nn.Linear(2, 2)}, tmp_path / "x.pth")
    file = read_weights(tmp_path / "x.pth")
    assert file.tensors.keys() == {"w"} and file.whole == {"model": "torch.nn.modules.linear.Linear"}
