"""Whose code may be run because a file names it: only what a person has named on this machine.

A run or a file of weights says by which class its encoder was made, and the file may be somebody else's: importing and
calling what it names would be running its author's code. Names that were typed here, as ``--encoder nets:Net``, are
kept in a small list (as Jupyter keeps which notebooks it trusts), so that a run can be analysed where it was trained
without a word; any other name has to be given again by the person who opens the file.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from memlight.errors import UserError

LIBRARIES = ("torchvision", "timm")
"""What stands before the colon in names of encoders that are not one's own."""

_FILE = "trusted_encoders.txt"
_trusted: list[str] = []


def is_ones_own(name: str) -> bool:
    """Whether an encoder's name is of code that is neither memlight's nor the two libraries'."""
    return ":" in name and name.partition(":")[0] not in LIBRARIES


def remember(name: str) -> None:
    """Note a name that was typed here: for this process, and in the list for later ones where that can be written."""
    if name in _trusted:
        return
    _trusted.append(name)
    if (path := _list()) is not None and name not in _kept(path):
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a", encoding="utf-8") as file:
                file.write(f"{name}\n")


class Untrusted(UserError):
    """A file names code that nobody here has named."""


@contextmanager
def trusting(names: Sequence[str] | None) -> Iterator[None]:
    """Within this block files may name these as well."""
    given = list(names or ())
    _trusted.extend(given)
    try:
        yield
    finally:
        for name in given:
            _trusted.remove(name)


def is_trusted(name: str) -> bool:
    """Whether a person has named it: in this process, or earlier on this machine."""
    path = _list()
    return name in _trusted or (path is not None and name in _kept(path))


def require_trusted(name: str, path: str | Path | None) -> None:
    """Refuse to import what only a file names.

    Args:
        name: ``package.module:Class``.
        path: the file, for the error.

    Raises:
        Untrusted: nobody here has named it.
    """
    if not is_trusted(name):
        why = f"its encoder was made by {name}, code that is not memlight's and that nobody has named on this machine"
        ways = [
            f"if you trust that code, give `trust={name}`",
            f"name it once with `analyze.py layers --encoder {name}`",
        ]
        raise Untrusted("path", path, why, ways)


def _list() -> Path | None:
    """Where the list is; None where there is no home."""
    base = os.environ.get("XDG_DATA_HOME", "")
    if os.path.isabs(base):
        return Path(base) / "memlight" / _FILE
    with suppress(RuntimeError):
        return Path.home() / ".local" / "share" / "memlight" / _FILE
    return None


def _kept(path: Path) -> list[str]:
    """The names of the list; none where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError):
        return []
