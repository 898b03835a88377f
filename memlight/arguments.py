"""The command line of train.py as text: what is wrong with it, in one line, before anything heavy is imported."""

import inspect
import re
from collections.abc import Collection, Sequence
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path

import yaml

from memlight.errors import UserError

_SEE = "see train.py fit --help"


def values_of(argv: Sequence[str], *flags: str) -> list[str]:
    """What was given to any of ``flags``, as ``--flag value`` or ``--flag=value``, in order."""
    found = []
    for index, word in enumerate(argv):
        name, equals, value = word.partition("=")
        if name in flags:
            found.append(value if equals else "".join(argv[index + 1 : index + 2]))
    return found


def require_configs(argv: Sequence[str]) -> None:
    """Refuse configuration files that cannot be read.

    Raises:
        UserError: a ``--config`` is missing, or is not a YAML mapping; says where it breaks.
    """
    for name in values_of(argv, "--config", "-c"):
        if not name:
            raise UserError("--config: name a YAML file, such as those in configs/.")
        try:
            content = yaml.safe_load(Path(name).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "not a text file"
            raise UserError(f"--config {name}: {why}; give a YAML file, such as those in configs/.") from error
        except yaml.YAMLError as error:
            mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None) or error
            where = f" in line {mark.line + 1}" if mark else ""
            raise UserError(f"--config {name}: not valid YAML{where}: {' '.join(str(problem).split())}.") from error
        if not isinstance(content, dict):
            raise UserError(f"--config {name}: not a configuration; train.py fit --print_config shows one.")


def in_one_line(message: str, flags: Collection[str]) -> str:
    """Say what jsonargparse says over a page of types in one line that begins with the flag.

    Args:
        message: of its ``ArgumentError``.
        flags: every flag the parser has, for the nearest ones to an unknown flag.
    """
    if found := re.match(r"unrecognized arguments: ([^\s=]+)", message):
        return f"{found[1]}: no such option{_nearest(found[1], flags)}; {_SEE}."
    if found := re.match(r"the following arguments are required: (?:\w+\.)?(\w+)", message):
        return f"--{found[1]}: missing; give it, or a --config that holds it."
    if found := re.match(r"argument (?:-\w/)?(--\S+): (.*)", message):
        return f"{found[1]}: {found[2]}."
    if not (keys := re.findall(r'Parser key "([^"]+)"', message)):
        return " ".join(message.split())
    flag = "--" + ".".join(keys)
    if found := re.search(r"Option '([^']+)' is not accepted", message):
        known = _parameters(message)
        return f"{flag}.{found[1]}: no such option{_nearest(found[1], known, f'{flag}.')}; {_SEE}."
    if found := re.search(r"Expected a path but (\S+) ", message):
        return f"{flag} {found[1]}: no such class, or not one for {flag}; give its name or its path (package.Class)."
    given = re.search(r"(?:Got value|Given value): (?!\w+\()(.*)", message)
    expected = re.findall(r"Expected an? (.+?)(?:\. Got value: .*)?$", message, flags=re.MULTILINE)
    kinds = list(dict.fromkeys(_plain_type(kind) for kind in expected if "NoneType" not in kind))
    if given is None or not kinds:
        return f"{flag}: {' '.join(message.split())}"
    return f"{flag} {given[1]}: must be {' or '.join(kinds)}."


def _nearest(word: str, known: Collection[str], prefix: str = "") -> str:
    nearest = get_close_matches(word, known, n=3, cutoff=0.6)
    return f"; nearest: {', '.join(prefix + name for name in nearest)}" if nearest else ""


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
