"""Tensors of any weights file by their dotted names; a file that would run code is refused, not run."""

import argparse
import hashlib
import json
import pickle
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from memlight.errors import UserError

_AS_STATE_DICT = "save its tensors alone in the program that made it: torch.save(model.state_dict(), 'weights.pth')"


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read every tensor of a weights file.

    Dictionaries within dictionaries and dotted names are alike: ``{"teacher": {"backbone.norm.weight": t}}`` gives
    ``teacher.backbone.norm.weight``. Lists (an optimizer's parameter groups) are left out.

    Args:
        path: a safetensors file by its ending, or else whatever ``torch.save`` wrote (.pth, .pt, .ckpt, .tar). Of the
            latter only tensors, plain values, ``argparse.Namespace`` and NumPy's scalars are read.

    Raises:
        UserError: no such file, truncated, holds code or objects of other programs, or no tensor.
    """
    tensors = read_safetensors(path) if path.suffix == ".safetensors" else _flat(_read_torch(path))
    if not tensors:
        raise UserError("path", path, "holds no tensor", ["give a state_dict", "a dictionary with one in it"])
    return tensors


def read_record(path: Path, key: str) -> dict[str, Any]:
    """What a program recorded beside the tensors: JSON in a safetensors header, a dictionary in a ``torch.save`` file.

    Args:
        path: as for `read_tensors`.
        key: under which it is, at the top level.

    Returns:
        The record; empty where there is none.

    Raises:
        UserError: as for `read_tensors`.
    """
    if path.suffix == ".safetensors":
        with open_safetensors(path) as file:
            record = json.loads((file.metadata() or {}).get(key, "{}"))
    else:
        saved = _read_torch(path)
        record = saved.get(key) if isinstance(saved, Mapping) else None
    return record if isinstance(record, dict) else {}


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Every tensor of a safetensors file.

    Raises:
        UserError: as `open_safetensors`.
    """
    with open_safetensors(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 -- not a mapping


@contextmanager
def open_safetensors(path: Path) -> Iterator[Any]:
    """Open a safetensors file, with one clear line for everything that can be wrong with it.

    Raises:
        UserError: no such file, truncated, or a pickle.
    """
    _require_file(path)
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, json.JSONDecodeError) as error:
        with path.open("rb") as file:  # of files that are not safetensors, whose first bytes are a length, any length
            start = file.read(4)
        if start[:1] == b"\x80" or start == b"PK\x03\x04":
            why = "this is a pickle (torch.save), which can run code when it is loaded"
            way_out = "give an encoder.safetensors, which holds only tensors and JSON"
            raise UserError("path", path, why, way_out) from error
        ways_out = ["copy it again", "train it again"]
        raise UserError("path", path, f"truncated, or not a safetensors file ({error})", ways_out) from error


def _require_file(path: Path) -> None:
    if not path.is_file():
        raise UserError("path", path, "no such file")


def _read_torch(path: Path) -> Any:
    _require_file(path)
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_harmless()):
            warnings.simplefilter("ignore")  # of pickle protocols and old storages: the file is what it is
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        held = re.search(r"GLOBAL (\S+)", str(error))
        why = "truncated, or a pickle that is not plain tensors"
        if held is not None:
            why = f"holds a {held[1]}, and reading that could run code, so it is not read"
        raise UserError("path", path, why, _AS_STATE_DICT) from error
    except (EOFError, OSError, RuntimeError, KeyError, ValueError) as error:
        kind = "a TorchScript program, which is not run" if "TorchScript" in str(error) else "truncated"
        ways_out = ["copy it again", _AS_STATE_DICT]
        raise UserError("path", path, f"{kind}, or not a file of torch.save", ways_out) from error


def _harmless() -> list[type | Callable[..., Any] | tuple[Callable[..., Any], str]]:
    """What training scripts put beside their tensors: options (DINO, MAE) and scores as NumPy scalars."""
    scalar: Any = np.float64(0).__reduce__()[0]
    codes = np.typecodes["AllInteger"] + np.typecodes["AllFloat"] + "?"
    return [
        argparse.Namespace,
        np.dtype,
        *{type(np.dtype(code)) for code in codes},
        (scalar, "numpy.core.multiarray.scalar"),
        (scalar, "numpy._core.multiarray.scalar"),
    ]


def _flat(value: Any, prefix: str = "") -> dict[str, Tensor]:
    if isinstance(value, Tensor):
        return {prefix: value.detach()}
    tensors: dict[str, Tensor] = {}
    if isinstance(value, Mapping):
        for key, item in value.items():
            tensors |= _flat(item, f"{prefix}.{key}" if prefix else str(key))
    return tensors


def weights_sha256(encoder: nn.Module) -> str:
    """Hash of an encoder's weights and buffers, wherever they come from."""
    digest = hashlib.sha256()
    for name, tensor in encoder.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
