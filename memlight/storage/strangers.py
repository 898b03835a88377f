"""What a pickle names and we do not know: left out where a reader asks for that, or refused; never called."""

import pickle
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Callable
from functools import partial
from typing import Any


class Refused(pickle.UnpicklingError):
    """A pickle names something that is not read.

    Attributes:
        name: ``module.name`` of it.
    """

    def __init__(self, name: str) -> None:
        super().__init__(f"names {name}, which could run code; only tensors, arrays and plain containers are read")
        self.name = name


class Maker:
    """What a pickle may call; it can neither look into it nor change it."""

    __slots__ = ("_make",)
    _make: Callable[..., Any]

    def __init__(self, make: Callable[..., Any]) -> None:
        object.__setattr__(self, "_make", make)

    def __call__(self, *args: Any) -> Any:
        """Make what the pickle asks for."""
        return self._make(*args)

    def __setattr__(self, name: str, value: object) -> None:
        raise pickle.UnpicklingError(f"changes {name} of a constructor")


class Skipped(dict[Any, Any]):
    """What stands in the place of an object of a class that is not read: its name, and nothing of what it was made of.

    Of dictionaries of other classes the entries are kept, as a state dictionary may be one.

    Attributes:
        name: ``module.name`` of its class.
        is_module: whether its state was that of an ``nn.Module``: a model that was saved whole.
    """

    __slots__ = ("is_module", "name")

    def __init__(self, name: str, *args: object) -> None:
        super().__init__()
        self.name, self.is_module = name, False

    def __hash__(self) -> int:  # type: ignore[override]
        """It may be a key: a path, an enumeration, a date."""
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other

    def __ne__(self, other: object) -> bool:
        return self is not other


class Stranger(Maker):
    """A class or function that is not read: whatever is made with it is left out, and it is not called."""

    __slots__ = ()

    def __init__(self, name: str) -> None:
        super().__init__(partial(Skipped, name))


_RUNNING = frozenset(
    {
        *("os", "posix", "nt", "posixpath", "ntpath", "subprocess", "pty", "shutil", "tempfile", "sys", "io", "_io"),
        *("importlib", "runpy", "pkgutil", "imp", "zipimport", "code", "codeop", "marshal", "pickle", "_pickle"),
        *("socket", "ctypes", "_ctypes", "webbrowser", "asyncio", "urllib", "http", "builtins"),
        *("timeit", "cProfile", "profile", "pdb", "bdb", "trace", "pydoc"),
    }
)
"""Modules whose functions run programs or touch files: a file that names one does not do so by chance."""

_HARMLESS = frozenset(
    {
        *("builtins.slice", "builtins.range", "builtins.type", "builtins.NoneType", "builtins.Ellipsis"),
        *("builtins.NotImplemented", "builtins.bytes", "builtins.getattr", "_io.BytesIO", "_io.StringIO"),
    }
)
"""What of them stands beside tensors now and then; errors that were caught besides."""

_TENSOR_MAKERS = ("torch._utils", "torch._tensor", "torch.storage", "torch.nn.parameter")
"""What is made there would be a tensor; to leave it out would be to leave out weights."""


def is_refused(module: str, name: str) -> bool:
    """Whether what is named, by Python 3 or 2, is refused even where other objects are left out."""
    module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
    whole = f"{module}.{name}"
    if whole in _HARMLESS or (module == "builtins" and name.endswith(("Error", "Exception", "Warning"))):
        return False
    return module.partition(".")[0] in _RUNNING or module in _TENSOR_MAKERS
