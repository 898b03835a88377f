"""Tensors of any weights file by their dotted names; a file that would run code is refused, not run."""

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from memlight.errors import UserError
from memlight.storage.documents import parse_json
from memlight.storage.opening import open_regular
from memlight.storage.strangers import Skipped
from memlight.storage.torch_files import read_torch

_AS_STATE_DICT = "save its tensors alone in the program that made it: torch.save(model.state_dict(), 'weights.pth')"

_START = 16
"""Bytes that tell a safetensors file from one of torch.save: a length, and the brace of its JSON."""

_SAFETENSORS_TYPES = (
    *("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL"),
)
"""Of the tensors that torch can hold; newer files may have others."""


@dataclass(frozen=True)
class WeightsFile:
    """What a weights file holds.

    Attributes:
        tensors: every tensor under its dotted name.
        whole: models that were saved as objects, which are not read: where each is, and its class.
    """

    tensors: dict[str, Tensor]
    whole: dict[str, str]

    def conversion(self, path: Path) -> str | None:
        """How to get at the weights of a model that was saved whole, in one line; None where there is none."""
        if not self.whole:
            return None
        where, kind = next(iter(self.whole.items()))
        steps = "".join(f"[{key!r}]" for key in where.split(".") if key)
        return (
            f"it holds a whole model, a {kind}, and reading that could run code; in the program that made it run: "
            f"import torch; model = torch.load({str(path)!r}, map_location='cpu', weights_only=False){steps}; "
            "torch.save(model.state_dict(), 'weights.pth')"
        )


def read_weights(path: Path) -> WeightsFile:
    """Read a weights file whose kind its first bytes tell, not its name.

    Dictionaries within dictionaries and dotted names are alike: ``{"teacher": {"backbone.norm.weight": t}}`` gives
    ``teacher.backbone.norm.weight``; a list of state dictionaries at the top numbers them. Other lists (an
    optimizer's parameter groups) are left out, and so is what is no tensor, array or plain value: it is not run.

    Args:
        path: a safetensors file, or else whatever ``torch.save`` wrote (.pth, .pt, .ckpt, .tar, .bin).

    Raises:
        UserError: no such file, truncated, or it names something that would run a program.
    """
    if is_safetensors(path):
        return WeightsFile(read_safetensors(path), {})
    saved = _saved(path)
    if isinstance(saved, list | tuple):
        saved = {str(number): item for number, item in enumerate(saved)}
    return WeightsFile(_flat(saved), _whole(saved))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Every tensor of a weights file by its dotted name; see `read_weights`.

    Raises:
        UserError: as `read_weights`, or it holds no tensor.
    """
    return require_tensors(read_weights(path), path)


def require_tensors(file: WeightsFile, path: Path) -> dict[str, Tensor]:
    """The tensors of a file that has some.

    Raises:
        UserError: it has none; says how to get at those of a model that was saved whole.
    """
    if not file.tensors:
        if conversion := file.conversion(path):
            raise UserError("path", path, conversion)
        raise UserError("path", path, "holds no tensor", ["give a state_dict", "a dictionary with one in it"])
    return file.tensors


def is_safetensors(path: Path) -> bool:
    """Whether a file is of safetensors by its first bytes; where they tell nothing, by its name.

    Raises:
        UserError: it cannot be read.
    """
    try:
        with open_regular(path) as file:
            start = file.read(_START)
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise UserError("path", path, str(error)) from error
    if start[:2] == b"PK" or start[:1] == b"\x80":
        return False
    length = int.from_bytes(start[:8], "little")
    return path.suffix == ".safetensors" or (start[8:9] == b"{" and length <= size - 8)


def read_record(path: Path, key: str) -> dict[str, Any]:
    """What a program recorded beside the tensors: JSON in a safetensors header, a dictionary in a ``torch.save`` file.

    Args:
        path: as for `read_weights`.
        key: under which it is, at the top level.

    Returns:
        The record; empty where there is none.

    Raises:
        UserError: as for `read_weights`.
    """
    if is_safetensors(path):
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
    return read_torch(path, "path", ["copy it again", _AS_STATE_DICT], skip=True)


def _flat(value: Any, prefix: str = "") -> dict[str, Tensor]:
    if isinstance(value, Tensor):
        return {prefix: value.detach()}
    tensors: dict[str, Tensor] = {}
    if isinstance(value, Mapping):
        for key, item in value.items():
            tensors |= _flat(item, f"{prefix}.{key}" if prefix else str(key))
    return tensors


def _whole(value: Any, prefix: str = "") -> dict[str, str]:
    """Models that were saved as objects, outside of each other."""
    if isinstance(value, Skipped) and value.is_module and not value.name.startswith("torch.nn.modules.loss."):
        return {prefix: value.name}
    found: dict[str, str] = {}
    if isinstance(value, Mapping):
        for key, item in value.items():
            found |= _whole(item, f"{prefix}.{key}" if prefix else str(key))
    return found


def weights_sha256(encoder: nn.Module) -> str:
    """Hash of an encoder's weights and buffers, wherever they come from."""
    digest = hashlib.sha256()
    for name, tensor in encoder.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
