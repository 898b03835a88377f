"""The command line of train.py as text: what is wrong with it, in one line, before anything heavy is imported."""

import inspect
import json
import re
from collections.abc import Collection, Sequence
from difflib import get_close_matches
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

import memlight
from memlight.errors import UserError
from memlight.storage.documents import WrongField, read_yaml_file

_SEE = "see train.py fit --help"


def values_of(argv: Sequence[str], *flags: str) -> list[str]:
    """What was given to any of ``flags``, as ``--flag value`` or ``--flag=value``, in order."""
    found = []
    for index, word in enumerate(argv):
        name, equals, value = word.partition("=")
        if name in flags:
            found.append(value if equals else "".join(argv[index + 1 : index + 2]))
    return found


def shipped_configs() -> dict[str, Path]:
    """The configurations that come with memlight by name, such as ``simclr_cifar10`` or ``sequence/dam_switch``."""
    package = Path(memlight.__file__).resolve().parent
    folder = next((place for place in (package / "configs", package.parent / "configs") if place.is_dir()), package)
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.yaml"))}


def configs_by_name(argv: Sequence[str]) -> list[str]:
    """The same flags, where the name of a configuration that comes with memlight has become its file.

    A file of that name wins.

    Raises:
        UserError: it is neither a file nor such a name; lists the nearest.
    """
    words = list(argv)
    for place, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name not in ("--config", "-c"):
            continue
        given = value if equals else "".join(words[place + 1 : place + 2])
        if not given or Path(given).exists() or Path(given).suffix:
            continue
        known = shipped_configs()
        if given not in known:
            nearest = get_close_matches(given, known, n=3, cutoff=0.4) or [*known][:3]
            why = f"neither a file nor a configuration that comes with memlight; nearest: {', '.join(nearest)}"
            raise UserError("config", given, why)
        words[place if equals else place + 1] = f"{name}={known[given]}" if equals else str(known[given])
    return words


def require_configs(argv: Sequence[str]) -> None:
    """Refuse configuration files that cannot be read.

    Raises:
        UserError: a ``--config`` is missing, or is not a YAML mapping; says where it breaks.
    """
    for name in values_of(argv, "--config", "-c"):
        if not name:
            raise UserError("config", None, "name a YAML file, such as those in configs/")
        try:
            read_yaml_file(Path(name), dict[str, Any])
        except OSError as error:
            raise UserError("config", name, str(error), "give a YAML file, such as those in configs/") from error
        except WrongField as error:
            why = f"not a configuration ({error})"
            raise UserError("config", name, why, "`train.py fit --print_config` shows one") from error
        except ValueError as error:
            raise UserError("config", name, str(error)) from error


def configs_first(argv: Sequence[str]) -> list[str]:
    """The same flags with configuration files before all others.

    Options of a class are known once it is named, which files do; and so a flag wins over a file wherever it stands.
    """
    files: list[str] = []
    others: list[str] = []
    words = iter(argv)
    for word in words:
        name, equals, _ = word.partition("=")
        if name not in ("--config", "-c"):
            others.append(word)
        else:
            files += [word] if equals else [word, *islice(words, 1)]
    return [*files, *others]


_LISTS = ("--data.split", "--data.splits", "--data.init_args.split", "--data.init_args.splits")


def lists_in_one_word(argv: Sequence[str]) -> list[str]:
    """The same flags, where those that take several words have them in one, as jsonargparse wants them.

    ``--data.split 0.8 0.1 0.1`` becomes ``--data.split=[0.8, 0.1, 0.1]``. A single word stays as it is.
    """
    joined: list[str] = []
    words = list(argv)
    while words:
        word = words.pop(0)
        values: list[str] = []
        while word in _LISTS and words and not words[0].startswith("--"):
            values.append(words.pop(0))
        if len(values) > 1:
            numbers = not word.endswith("splits")
            joined.append(f"{word}=[{', '.join(values)}]" if numbers else f"{word}={json.dumps(values)}")
        else:
            joined += [word, *values]
    return joined


def trains_sequences(argv: Sequence[str]) -> bool:
    """Whether --data is bit sequences: what a flag names, else the last readable --config that names any."""
    named = [Path(name) for name in values_of(argv, "--config", "-c")]
    files = [read_yaml_file(path, dict[str, Any]).get("data") for path in named]
    classes = [data.get("class_path") if isinstance(data, dict) else data for data in files]
    classes += values_of(argv, "--data", "--data.class_path")
    given = [str(name) for name in classes if name]
    return bool(given) and given[-1].rpartition(".")[2] == "SequenceDataModule"


def in_one_line(message: str, flags: Collection[str]) -> str:
    """Say what jsonargparse says over a page of types in one line that begins with the flag.

    Args:
        message: of its ``ArgumentError``.
        flags: every flag the parser has, for the nearest ones to an unknown flag.
    """
    if found := re.match(r"the following arguments are required: (?:\w+\.)?(\w+)", message):
        return f"--{found[1]}: missing; give it, or a --config that holds it."
    if found := re.match(r"argument (?:-\w/)?(--\S+): (.*)", message):
        return f"{found[1]}: {found[2]}."
    keys = list(dict.fromkeys(re.findall(r'Parser key "([^"]+)"', message)))
    flag = "--" + ".".join(keys)
    if unknown := _unknown(message):
        typed = f"{flag}.{unknown}" if keys else unknown
        known = [f"{flag}.{name}" for name in _parameters(message)] if keys else flags
        nearest = get_close_matches(typed, known, n=3, cutoff=0.8)
        return f"{typed}: no such option{'; nearest: ' * bool(nearest)}{', '.join(nearest)}; {_SEE}."
    if not keys:
        return " ".join(message.split())
    if found := re.search(r"Expected a path but (\S+) ", message):
        return f"{flag} {found[1]}: no such class, or not one for {flag}; give its name or its path (package.Class)."
    given = re.search(r"(?:Got value|Given value): (?!\w+\(|\{)(.*)", message)
    expected = re.findall(r"Expected an? (.+?)(?:\. Got value: .*)?$", message, flags=re.MULTILINE)
    kinds = list(dict.fromkeys(_plain_type(kind) for kind in expected if "NoneType" not in kind))
    if given and kinds:
        return f"{flag} {given[1]}: must be {' or '.join(kinds)}."
    return f"{flag}: not understood; {_SEE}. ({' '.join(message.split())})"


_UNKNOWN = (
    r"Option '(?P<name>[^']+)' is not accepted",
    r"Group '(?P<group>[^']+)' does not accept option '(?P<name>[^']+)'",
    r"Subcommand '\w+' does not accept option '(?P<name>[^']+)'",
    r"unrecognized arguments: (?P<name>[^\s=]+)",
)
"""How jsonargparse says that an option does not exist, on the command line and in files."""


def _unknown(message: str) -> str | None:
    """The option that does not exist: as it was typed, or its place in its class; None if that is not the mistake."""
    for pattern in _UNKNOWN:
        if found := re.search(pattern, message):
            parts = found.groupdict()
            name = ".".join(filter(None, [parts.get("group"), parts["name"]]))
            if "Parser key" in message:
                return name.removeprefix("--")
            return f"--{name}" if message.startswith("Subcommand") else name
    return None


def _parameters(message: str) -> list[str]:
    """The arguments of the class that a message is about."""
    path = re.search(r"class_path '([\w.]+)\.(\w+)'", message)
    return list(inspect.signature(getattr(import_module(path[1]), path[2])).parameters) if path else []


def _plain_type(kind: str) -> str:
    """``<class 'int'>`` as ``int``, ``typing.Literal['a', 'b']`` as ``one of a, b``."""
    if found := re.fullmatch(r"<class '(?:\w+\.)*(\w+)'>", kind):
        return found[1]
    if found := re.fullmatch(r"typing\.Literal\[(.*)\]", kind):
        return "one of " + found[1].replace("'", "")
    return kind
