"""Weights of other kinds of numbers: taken where nothing is lost without a word, and refused otherwise."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from memlight.errors import UserError
from memlight.models.encoders import build_encoder, load_encoder, read_metadata, save_encoder
from memlight.models.foreign import load_weights

STATE = build_encoder("resnet9", seed=0, image_size=16).state_dict()


def fresh() -> Any:
    return build_encoder("resnet9", seed=1, image_size=16)


def only_floats(change: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda tensor: change(tensor) if tensor.is_floating_point() else tensor


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_floating_point_numbers_of_other_lengths_are_converted(tmp_path: Path, kind: torch.dtype) -> None:
    torch.save({name: only_floats(lambda one: one.to(kind))(tensor) for name, tensor in STATE.items()}, tmp_path / "w")
    encoder = fresh()
    load_weights(encoder, tmp_path / "w")
    assert torch.equal(encoder.state_dict()["layer1.conv.weight"], STATE["layer1.conv.weight"].to(kind).float())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda tensor: (tensor * 100).int(), "is torch.int32 where floating-point numbers belong"),
        (lambda tensor: tensor > 0, "is torch.bool where floating-point numbers belong"),
        (lambda tensor: tensor.to(torch.complex64), "is torch.complex64 where floating-point numbers belong"),
        (lambda tensor: tensor.to(torch.float8_e4m3fn), "is torch.float8_e4m3fn, whose scale is not known"),
        (lambda tensor: tensor.to_sparse() if tensor.dim() else tensor, "holds a sparse tensor"),
        (lambda tensor: tensor.to("meta"), "holds a tensor without numbers"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_copying_would_change_is_refused(tmp_path: Path, change: Callable[[Tensor], Tensor], words: str) -> None:
    torch.save({name: only_floats(change)(tensor) for name, tensor in STATE.items()}, tmp_path / "w.pth")
    encoder = fresh()
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    with pytest.raises(UserError, match=words):
        load_weights(encoder, tmp_path / "w.pth")
    assert all(torch.equal(before[name], tensor) for name, tensor in encoder.state_dict().items())


def test_variances_are_not_negative(tmp_path: Path) -> None:
    name = next(name for name in STATE if name.endswith("running_var"))
    torch.save({**STATE, name: -STATE[name]}, tmp_path / "w.pth")
    with pytest.raises(UserError, match=f"{name} holds negative variances"):
        load_weights(fresh(), tmp_path / "w.pth")


ARCHITECTURE = {"name": "resnet9", "stem": "cifar", "in_channels": 3, "num_features": 256, "input_size": 16}


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ("{no", "holds tensors but not memlight's metadata"),
        ("[1]", "its metadata: expected object, got array"),
        ("[" * 100_000, "not memlight's metadata"),
        ({"architecture": []}, "field architecture: expected object, got array"),
        (
            {"architecture": {**ARCHITECTURE, "input_size": 10**6}},
            "field architecture.input_size: expected int <= 13377",
        ),
        ({"architecture": ARCHITECTURE, "layers": 5}, "field layers: expected array, got int"),
        ({"architecture": ARCHITECTURE, "views": {"name": "weak"}}, "field views.size is missing"),
        ({"architecture": ARCHITECTURE, "epochs": "3"}, "field epochs: expected int, got str"),
    ],
)
def test_metadata_have_a_schema(tmp_path: Path, metadata: Any, words: str) -> None:
    text = metadata if isinstance(metadata, str) else json.dumps(metadata)
    save_file({"w": torch.zeros(2)}, tmp_path / "encoder.safetensors", metadata={"memlight": text})
    with pytest.raises(UserError, match=words):
        load_encoder(tmp_path / "encoder.safetensors")


def test_metadata_of_newer_releases_are_kept(tmp_path: Path) -> None:
    save_encoder(tmp_path / "encoder.safetensors", fresh(), {"newer": {"a": [1]}})
    assert read_metadata(tmp_path / "encoder.safetensors")["newer"] == {"a": [1]}
