"""Whether two directories hold the same results: everything but times, and places on the disk."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tests.tiny_pair import same_tensors

_TIMES = ("finished", "seconds", "per_second")
_CHECKPOINT = ("epoch", "global_step", "state_dict", "optimizer_states", "lr_schedulers", "memlight")
_OF_OTHERS = {"wandb", "wandb_id.txt"}
"""What is of W&B: its own files, and an id that is drawn."""


def differences(one: Path, other: Path) -> list[str]:
    """Files that only one has, that differ, or that a finished command should not have left."""
    a, b = _files(one), _files(other)
    found = [f"only in {root.name}: {name}" for root, x, y in ((one, a, b), (other, b, a)) for name in x.keys() - y]
    found += [f"left behind: {name}" for name in b if any(part.startswith(".") for part in Path(name).parts)]
    return sorted(found + [f"differs: {name}" for name in a.keys() & b if not _same(a[name], b[name], one, other)])


def _files(root: Path) -> dict[str, Path]:
    files = (path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    named = {path.relative_to(root).as_posix(): path for path in files}
    return {name: path for name, path in named.items() if not _OF_OTHERS & set(Path(name).parts)}


def _same(a: Path, b: Path, root_a: Path, root_b: Path) -> bool:
    if a.suffix == ".json":
        return _timeless(_json(a, root_a)) == _timeless(_json(b, root_b))
    if a.suffix == ".npz":
        with np.load(a) as x, np.load(b) as y:
            return x.files == y.files and all(_equal(x[name], y[name]) for name in x)
    if a.suffix == ".ckpt":
        x, y = (torch.load(path, weights_only=True) for path in (a, b))
        return all(same_tensors(x.get(key), y.get(key)) for key in _CHECKPOINT)
    if a.suffix == ".html":
        return _without_times(a) == _without_times(b)
    return a.read_bytes().replace(bytes(root_a), b"") == b.read_bytes().replace(bytes(root_b), b"")


def _equal(x: NDArray[Any], y: NDArray[Any]) -> bool:
    return np.array_equal(x, y, equal_nan=x.dtype.kind == "f")


def _json(path: Path, root: Path) -> Any:
    return json.loads(path.read_text().replace(str(root), ""))


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(item) for key, item in value.items() if not key.endswith(_TIMES)}
    return [_timeless(item) for item in value] if isinstance(value, list) else value


def _without_times(page: Path) -> str:
    return re.sub(r"20\d\d-\d\d-\d\d[ T][\d:+]+|[\d.]+ (s|images/s|images a second)\b", "", page.read_text())
