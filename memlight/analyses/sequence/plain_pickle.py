"""Pickles of others, read without running code that is in them: tensors, arrays and plain containers alone."""

import argparse
import collections
import importlib
import io
import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from memlight.errors import UserError

_PLAIN = ("list", "dict", "set", "frozenset", "tuple", "int", "float", "bool", "str", "complex", "bytearray")

_CORE = "numpy.core" if np.__version__.startswith("1.") else "numpy._core"
"""Where NumPy keeps what makes arrays again."""

_ALLOWED = {
    **{(module, name): ("builtins", name) for module in ("builtins", "__builtin__") for name in _PLAIN},
    ("__builtin__", "long"): ("builtins", "int"),
    ("collections", "OrderedDict"): ("collections", "OrderedDict"),
    ("collections", "defaultdict"): ("collections", "defaultdict"),
    ("argparse", "Namespace"): ("argparse", "Namespace"),
    ("numpy", "ndarray"): ("numpy", "ndarray"),
    ("numpy", "dtype"): ("numpy", "dtype"),
    **{(f"numpy.{core}.multiarray", name): (f"{_CORE}.multiarray", name)
       for core in ("core", "_core") for name in ("_reconstruct", "scalar")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): (f"{_CORE}.numeric", "_frombuffer") for core in ("core", "_core")},
    **{("torch._utils", name): ("torch._utils", name) for name in ("_rebuild_tensor_v2", "_rebuild_parameter")},
    ("torch", "Size"): ("torch", "Size"),
    ("torch", "device"): ("torch", "device"),
}  # fmt: skip
"""What a pickle may name, and where it is now: tensors, arrays, plain containers."""


def load_plain(path: Path) -> Any:
    """Unpickle tensors, arrays and plain containers, on the CPU; nothing else that a file names is called.

    Raises:
        UserError: it is missing, damaged, or names something else.
    """
    try:
        with path.open("rb") as file:
            return _load_torch(file) if zipfile.is_zipfile(path) else _Unpickler(file).load()
    except UserError as error:
        raise UserError("path", path, str(error)) from error
    except (OSError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError, ImportError, RuntimeError,
            pickle.UnpicklingError) as error:  # fmt: skip
        said = str(error).splitlines()[0] if str(error) else repr(error)
        raise UserError("path", path, f"cannot be read ({said})") from error


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("torch.storage", "_load_from_bytes"):
            return _load_storage
        if (module, name) == ("_codecs", "encode"):
            return _encode
        if (module, name) in _ALLOWED:
            home, attribute = _ALLOWED[module, name]
            return getattr(importlib.import_module(home), attribute)
        raise UserError(
            f"names {module}.{name}, which could run code; only tensors, arrays and plain containers are read."
        )


def _encode(text: str, encoding: str) -> bytes:
    """How old pickles spell bytes."""
    if encoding != "latin1":
        raise UserError(f"encodes bytes as {encoding}.")
    return text.encode("latin1")


def _load_storage(data: bytes) -> Any:
    return _load_torch(io.BytesIO(data))


def _load_torch(file: Any) -> Any:
    """`torch.load` of weights alone, with the plain classes that the authors' files name besides."""
    import torch

    core = importlib.import_module(f"{_CORE}.multiarray")
    safe: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
        argparse.Namespace,
        collections.defaultdict,
        core._reconstruct,
        core.scalar,
    ]
    safe += [np.ndarray, np.dtype, *(type(np.dtype(kind)) for kind in "?bBhHiIlLqQefd")]
    try:
        with torch.serialization.safe_globals(safe), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Detected pickle protocol", category=UserWarning)
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = next((line.strip() for line in str(error).splitlines() if "GLOBAL" in line), "more than tensors")
        raise UserError(f"holds more than tensors, arrays and plain containers ({named})") from error
