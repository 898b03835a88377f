"""Encoders of one's own: ``package.module:Class``, or a function there that returns one, imported and tried out.

Any `torch.nn.Module` that maps a batch of images to features will do; it needs nothing of memlight's. Its number of
features is found by one forward, which leaves it as it was.
"""

import importlib
import os
import random
import re
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from memlight.errors import UserError
from memlight.features.discovery import forward_blank

IMAGE_SIZE = 224
"""Side of the images an encoder is tried out on where nobody says another one."""

_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
_LONGEST = 300
"""Characters of an error's text that are repeated."""


def build_by_name(
    name: str, make: Callable[..., Any], arguments: Mapping[str, Any], *, seed: int | None, image_size: int | None
) -> tuple[nn.Module, int, int]:
    """Call what a name means, and see what it does with images.

    Args:
        name: ``package.module:Class`` or ``package.module:function``.
        make: what `import_named` gives for it.
        arguments: what it is called with, by name.
        seed: Python's and NumPy's generators are seeded with it while it is made (torch's are the caller's matter);
            None leaves them.
        image_size: side in pixels of the images it is tried out on; None is 224, or what a model of timm says.

    Returns:
        The module in train mode, how many features it gives, and the image side.

    Raises:
        UserError: it raises, what it makes is no `torch.nn.Module`, or does not map images to features.
    """
    ways = ["give what it needs with `encoder_args=NAME=VALUE`"] if not arguments else []
    with _generators(seed):
        with _foreign(name, f"{name.rpartition(':')[2]}({_listed(arguments)}) raised", ways):
            encoder = make(**arguments)
        if not isinstance(encoder, nn.Module):
            why = f"gives {_kind(encoder)}, not a torch.nn.Module"
            raise UserError("name", name, why, "name a class of modules, or a function that returns one")
        _require_new(name, encoder)
        size = image_size or _own_size(encoder)
        if any(is_lazy(parameter) for parameter in encoder.parameters()):
            _try_out(name, encoder, size)  # gives them their shapes and first values
    return encoder.train(), _count_features(name, _try_out(name, encoder, size)), size


def import_named(name: str) -> Callable[..., Any]:
    """The class or function of that name; modules of the working directory are found before all others.

    Whatever a module draws while it is imported, the random generators are afterwards what they were: it is imported
    once in a process, so weights that are made later must not depend on it.

    Raises:
        UserError: it is no name of this form, there is no such module or attribute, importing it raises, or it cannot
            be called.
    """
    module_name, _, attribute = name.partition(":")
    if not _NAME.fullmatch(name) or module_name.endswith(".py"):
        as_module = re.sub(r"\.py$", "", module_name).lstrip("./").replace("/", ".")
        looks = f"{as_module}:{attribute or 'Class'}"
        ways = [f"write {looks}"] if looks != name and _NAME.fullmatch(looks) else ["write package.module:Class"]
        raise UserError("name", name, "is not the name of a class or function in a Python module", ways)
    found: Any = _import(name, module_name)
    for part in attribute.split("."):
        with _foreign(name, f"looking up {part} raised"):
            known = list(vars(found)) if hasattr(found, "__dict__") else []
            missing = not hasattr(found, part)
            found = None if missing else getattr(found, part)
        if missing:
            near = get_close_matches(part, [word for word in known if not word.startswith("_")], n=3, cutoff=0.6)
            nearest = f"; nearest: {', '.join(near)}" if near else ""
            file = getattr(sys.modules[module_name], "__file__", None)
            place = "" if file is None else f" ({os.path.relpath(file) if _is_here(file) else file})"
            raise UserError("name", name, f"module {module_name}{place} has no {attribute}{nearest}", _OF_LIBRARIES)
    if isinstance(found, nn.Module):
        way = "name a function that makes it anew, so that its first weights can be a function of the seed"
        raise UserError("name", name, "is one module that exists already", way)
    if not callable(found):
        raise UserError("name", name, f"is {_kind(found)}, not a class or a function that returns a module")
    made: Callable[..., Any] = found
    return made


def imported_class(name: str) -> bool:
    """Whether a name is of a class of modules in code of one's own that this process has imported, as a notebook does.

    Installed libraries do not count: some of their classes load whatever file their arguments name.
    """
    module_name, _, attribute = name.partition(":")
    module = sys.modules.get(module_name)
    if module is None or _is_installed(module):
        return False
    found = vars(module).get(attribute)
    return isinstance(found, type) and issubclass(found, nn.Module)


_OF_LIBRARIES = "models of the two libraries are called torchvision:NAME and timm:NAME"


def _is_here(file: str) -> bool:
    return Path(os.path.realpath(file)).is_relative_to(os.path.realpath(os.getcwd()))


def _is_installed(module: ModuleType) -> bool:
    """Whether a module is Python's own or lies where packages are installed."""
    file = getattr(module, "__file__", None)
    if module.__name__ == "__main__":
        return False
    if file is None:
        return True
    paths = sysconfig.get_paths()
    places = {os.path.realpath(paths[kind]) for kind in ("stdlib", "platstdlib", "purelib", "platlib")}
    return any(Path(os.path.realpath(file)).is_relative_to(place) for place in places)


def _import(name: str, module_name: str) -> ModuleType:
    try:
        with (
            torch.random.fork_rng(devices=[]),
            _generators(0),
            _working_directory_first(),
            _foreign(name, f"importing {module_name} raised"),
        ):
            return importlib.import_module(module_name)
    except UserError as error:
        cause = error.__cause__
        if isinstance(cause, ModuleNotFoundError) and f"{module_name}.".startswith(f"{cause.name}."):
            why = f"no module {cause.name} in the working directory or among the installed packages"
            ways = ["start the command where that module lies", "set PYTHONPATH", _OF_LIBRARIES]
            raise UserError("name", name, why, ways) from cause
        raise


@contextmanager
def _working_directory_first() -> Iterator[None]:
    """Find modules of the working directory: before all others while a name is imported, after all others later.

    A script's own folder is on Python's path, the working directory is not. It stays there for what the module imports
    when it runs, behind all else, so that a file of an unlucky name there takes nobody's place.
    """
    here = os.getcwd()
    sys.path.insert(0, here)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        with suppress(ValueError):
            sys.path.remove(here)
        if here not in sys.path:
            sys.path.append(here)


@contextmanager
def _foreign(name: str, doing: str, ways: Sequence[str] = ()) -> Iterator[None]:
    """Say in one line what code that is not ours raises, be it what it may: its kind, its text and its place.

    Args:
        name: of the code.
        doing: what was done, before the error's kind.
        ways: ways out.
    """
    try:
        yield
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # a user's own code may raise anything
        raise UserError("name", name, f"{doing} {_described(error)}", ways) from error


def _described(error: BaseException) -> str:
    """``TypeError: its text (nets.py, line 12)``."""
    text = " ".join(str(error).split())
    text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({os.path.basename(frames[-1].filename)}, line {frames[-1].lineno})" if frames else ""
    ours = not frames or frames[-1].filename == __file__
    return f"{type(error).__name__}{': ' * bool(text)}{text}{'' if ours else place}"


@contextmanager
def _generators(seed: int | None) -> Iterator[None]:
    """Draw from Python's and NumPy's generators by the seed alone, and put them back; None leaves them."""
    if seed is None:
        yield
        return
    states = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


def _require_new(name: str, encoder: nn.Module) -> None:
    """Refuse a module in which there is no room for its description, or that was made before."""
    if getattr(vars(encoder).get("spec"), "name", None) == name:
        raise UserError("name", name, "returned a module that it had returned before", "make a new one in each call")
    if hasattr(encoder, "spec") and not hasattr(vars(encoder).get("spec"), "num_features"):
        why = "its modules have an attribute called spec, where memlight keeps what an encoder is"
        raise UserError("name", name, why, "give that another name")
    for entry, value in encoder.state_dict().items():
        if not isinstance(value, Tensor):
            why = f"keeps {_kind(value)} among its weights ({entry}), which a file of tensors cannot hold"
            raise UserError("name", name, why, "keep it elsewhere")


def _own_size(encoder: nn.Module) -> int:
    """The image side that a model of timm says, or `IMAGE_SIZE`."""
    config = getattr(encoder, "pretrained_cfg", None)
    sizes = config.get("input_size") if isinstance(config, Mapping) else None
    return int(sizes[-1]) if sizes else IMAGE_SIZE


def _try_out(name: str, encoder: nn.Module, size: int) -> object:
    ways = ["say with `image_size` which images it takes"]
    with _foreign(name, f"a forward of images (2, 3, {size}, {size}) raised", ways):
        return forward_blank(encoder, size)


def _count_features(name: str, output: object) -> int:
    """How wide the features are.

    Raises:
        UserError: what came out is something else; says what, and what to do.
    """
    if not isinstance(output, Tensor):
        given = f"gives {_kind(output)}{_inside(output)} for a batch of images, not features (B, D)"
        raise UserError("name", name, given, f"{_AROUND} returns one tensor of it")
    sizes = ", ".join(["B", *map(str, output.shape[1:])]) if output.ndim else ""
    if output.ndim and len(output) != 2:
        why = f"gives a tensor whose first axis is {len(output)} for 2 images, not features (B, D)"
        raise UserError("name", name, why, f"{_AROUND} keeps the batch as the first axis")
    if output.ndim != 2:
        kind, way = _SHAPES.get(output.ndim, ("a tensor", f"{_AROUND} returns a row of numbers for each image"))
        raise UserError("name", name, f"gives {kind} ({sizes}) for a batch of images, not features (B, D)", way)
    if not output.is_floating_point():
        raise UserError("name", name, f"gives {output.dtype} numbers, not features", f"{_AROUND} returns floats")
    return int(output.shape[1])


_AROUND = "name a function that returns a module around it which"
_SHAPES = {
    4: ("maps", f"{_AROUND} averages them: nn.Sequential(it, nn.AdaptiveAvgPool2d(1), nn.Flatten())"),
    3: ("tokens", f"{_AROUND} returns one of them, or their mean"),
}


def _kind(value: object) -> str:
    if value is None:
        return "None"
    if isinstance(value, Mapping):
        return "a dictionary"
    kind = type(value).__name__
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


def _inside(value: object) -> str:
    """The first few entries of a container, with the shapes of tensors."""
    entries: list[tuple[str, object]] = []
    if isinstance(value, Mapping):
        entries = [(str(key), entry) for key, entry in value.items()]
    elif isinstance(value, list | tuple):
        entries = [(str(number), entry) for number, entry in enumerate(value)]
    shown = [
        f"{key} {tuple(entry.shape)}" if isinstance(entry, torch.Tensor) else f"{key} {_kind(entry)}"
        for key, entry in entries[:4]
    ]
    more = ", ..." if len(entries) > 4 else ""
    return f" ({', '.join(shown)}{more})" if shown else ""


def _listed(arguments: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value!r}" for key, value in arguments.items())
