"""Tensors of any weights file by their dotted names; a file that would run code is refused, not run."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from memlight.errors import UserError
from memlight.storage.documents import parse_json
from memlight.storage.opening import open_regular
from memlight.storage.torch_files import read_torch

_AS_STATE_DICT = "save its tensors alone in the program that made it: torch.save(model.state_dict(), 'weights.pth')"

_SAFETENSORS_TYPES = (
    *("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL"),
)
"""Of the tensors that torch can hold; newer files may have others."""


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read every tensor of a weights file.

    Dictionaries within dictionaries and dotted names are alike: ``{"teacher": {"backbone.norm.weight": t}}`` gives
    ``teacher.backbone.norm.weight``. Lists (an optimizer's parameter groups) are left out.

    Args:
        path: a safetensors file by its ending, or else whatever ``torch.save`` wrote (.pth, .pt, .ckpt, .tar). Of the
            latter only tensors, arrays and plain values are read.

    Raises:
        UserError: no such file, truncated, holds code or objects of other programs, or no tensor.
    """
    tensors = read_safetensors(path) if path.suffix == ".safetensors" else _flat(_saved(path))
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
            text = (file.metadata() or {}).get(key, "{}")
        try:
            record: object = parse_json(text, object)
        except ValueError as error:
            raise UserError("path", path, f"{key} in its header is not JSON ({error})", "copy it again") from error
    else:
        saved = _saved(path)
        record = saved.get(key) if isinstance(saved, Mapping) else None
    return record if isinstance(record, dict) else {}


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Every tensor of a safetensors file.

    Raises:
        UserError: as `open_safetensors`.
    """
    with open_safetensors(path) as file:
        names = list(file.keys())
        kinds = {name: file.get_slice(name).get_dtype() for name in names}
        if other := next((name for name in names if kinds[name] not in _SAFETENSORS_TYPES), None):
            raise UserError("path", path, f"{other} is of type {kinds[other]}, which is not read", _AS_STATE_DICT)
        return {name: file.get_tensor(name) for name in names}


@contextmanager
def open_safetensors(path: Path) -> Iterator[Any]:
    """Open a safetensors file, with one clear line for everything that can be wrong with it.

    Raises:
        UserError: no such file, truncated, or a pickle.
    """
    try:
        with open_regular(path) as beginning:
            start = beginning.read(4)
    except OSError as error:
        raise UserError("path", path, str(error)) from error
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        if start[:1] == b"\x80" or start == b"PK\x03\x04":
            why = "this is a pickle (torch.save), which can run code when it is loaded"
            way_out = "give an encoder.safetensors, which holds only tensors and JSON"
            raise UserError("path", path, why, way_out) from error
        ways_out = ["copy it again", "train it again"]
        raise UserError("path", path, f"truncated, or not a safetensors file ({error})", ways_out) from error


def _saved(path: Path) -> Any:
    return read_torch(path, "path", ["copy it again", _AS_STATE_DICT])


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
