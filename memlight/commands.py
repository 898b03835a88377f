"""Typed functions as command lines: a signature gives the flags, its docstring gives the help.

`analyze.py` has one function per command. LightningCLI's parser would serve too, but importing it takes
seconds and its lists are not typed as users type them (``--ratios 0.1 0.2``).
"""

import argparse
import inspect
import re
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from memlight.errors import UserError

Command = Callable[..., object]


@dataclass(frozen=True)
class CommandGroup:
    """Commands that share a first word, as ``patches extract``, ``patches search``.

    Attributes:
        summary: shown in the list of commands.
        commands: by their second word.
    """

    summary: str
    commands: Mapping[str, Command]


Commands = Mapping[str, Command | CommandGroup]


def build_parser(prog: str, description: str, commands: Commands) -> argparse.ArgumentParser:
    """A parser with one subcommand per function.

    Args:
        prog: what the user typed.
        description: shown above the list of commands.
        commands: name and function, or a group of them. Parameters without a default are required flags; `list` and
            `tuple` parameters take several values; `Literal` gives choices; `bool` gives ``--flag / --no-flag``. A
            parameter that is a dataclass stands for its fields, a group whose help its ``Attributes`` section gives.

    Returns:
        A parser whose namespace holds the command's name under ``command``, and of one in a group its second word
        under ``subcommand``.
    """
    parser = argparse.ArgumentParser(prog=prog, description=description, allow_abbrev=False)
    _add_commands(parser, "command", commands)
    return parser


def _add_commands(parser: argparse.ArgumentParser, dest: str, commands: Commands) -> None:
    subparsers = parser.add_subparsers(dest=dest, required=True, metavar="COMMAND")
    for name, function in commands.items():
        if isinstance(function, CommandGroup):
            group_parser = subparsers.add_parser(
                name, help=_escaped(function.summary), description=function.summary, allow_abbrev=False
            )
            _add_commands(group_parser, "subcommand", function.commands)
            continue
        summary, helps = read_docstring(function)
        sub = subparsers.add_parser(
            name, help=_escaped(summary), description=summary, allow_abbrev=False, formatter_class=_HelpFormatter
        )
        for parameter, hint in _parameters(function):
            if _is_group(hint):
                group = sub.add_argument_group(helps.get(parameter.name, ""))
                _, helps_of_group = read_docstring(hint, section="Attributes")
                for field, kind in _parameters(hint):
                    _add_flag(group, field, kind, helps_of_group.get(field.name, ""))
            else:
                _add_flag(sub, parameter, hint, helps.get(parameter.name, ""))


def run_command(parser: argparse.ArgumentParser, commands: Commands, argv: Sequence[str]) -> object:
    """Parse `argv` and call the command's function with its flags.

    Raises:
        UserError: as the function raises it, with the command's flags noted in it.
    """
    options = vars(parser.parse_args(with_hyphens(argv)))
    function = commands[options["command"]]
    if isinstance(function, CommandGroup):
        function = function.commands[options["subcommand"]]
    try:
        arguments = {
            parameter.name: hint(**{field.name: options[field.name] for field in fields(hint)})
            if _is_group(hint)
            else options[parameter.name]
            for parameter, hint in _parameters(function)
        }
        return function(**arguments)
    except UserError as error:
        error.flags = flags_of(parser, [options["command"], *filter(None, [options.get("subcommand")])])
        raise


def with_hyphens(argv: Sequence[str]) -> list[str]:
    """The same words with hyphens for underscores in the names of flags: ``--view_set`` is ``--view-set``."""
    return [_respelled(word, "_", "-") for word in argv]


def with_underscores(argv: Sequence[str]) -> list[str]:
    """The same words with underscores for hyphens in the names of flags, as LightningCLI spells them."""
    return [_respelled(word, "-", "_") for word in argv]


def _respelled(word: str, old: str, new: str) -> str:
    name, equals, value = word.partition("=")
    return f"--{name[2:].replace(old, new)}{equals}{value}" if name.startswith("--") else word


def flags_of(parser: argparse.ArgumentParser, words: Sequence[str]) -> set[str]:
    """Every flag that a parser of `build_parser` takes after these words, such as ``patches``, ``search``."""
    for word in words:
        (subcommands,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
        parser = subcommands.choices[word]
    return {flag for flag in parser._option_string_actions if flag.startswith("--")}


def read_docstring(function: Command, *, section: str = "Args") -> tuple[str, dict[str, str]]:
    """First line of a Google docstring, and the help of each entry of a section with its lines joined."""
    text = inspect.getdoc(function) or ""
    summary = text.partition("\n")[0]
    found = re.search(rf"^{section}:\n((?:[ \t]+.*\n?|\n)*)", text, flags=re.MULTILINE)
    helps: dict[str, str] = {}
    if found:
        for entry in re.finditer(r"^ {4}(\w+): ((?:.*\n?)(?: {8}.*\n?)*)", found.group(1), flags=re.MULTILINE):
            helps[entry.group(1)] = " ".join(entry.group(2).split())
    return summary, helps


def _parameters(function: Command) -> list[tuple[inspect.Parameter, Any]]:
    """Parameters with their types; of a dataclass its fields."""
    hints = get_type_hints(function)
    return [(parameter, hints[parameter.name]) for parameter in inspect.signature(function).parameters.values()]


def _is_group(hint: Any) -> bool:
    return is_dataclass(hint)


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default in (None, argparse.SUPPRESS) or action.required:
            return action.help
        return super()._get_help_string(action)


def _add_flag(parser: argparse._ActionsContainer, parameter: inspect.Parameter, hint: Any, help_text: str) -> None:
    kind, many = _element_type(hint)
    options: dict[str, Any] = {"help": _escaped(help_text), "dest": parameter.name}
    if parameter.default is inspect.Parameter.empty:
        options["required"] = True
    else:
        options["default"] = parameter.default
    if kind is bool:
        options["action"] = argparse.BooleanOptionalAction
    else:
        options["metavar"] = parameter.name.upper()
        options["type"] = kind
        if get_origin(kind) is Literal:
            choices = get_args(kind)
            options |= {"type": type(choices[0]), "choices": choices}
            del options["metavar"]
        if many:
            options["nargs"] = "+"
            if options.get("default") is None:  # given again it adds to what was given before
                options["action"] = "extend"
    short = [f"-{parameter.name}"] if len(parameter.name) == 1 else []
    parser.add_argument("--" + parameter.name.replace("_", "-"), *short, **options)


def _escaped(text: str) -> str:
    """For argparse, which fills placeholders into help texts."""
    return text.replace("%", "%%")


def _element_type(hint: Any) -> tuple[Any, bool]:
    """The type of one value, and whether the flag takes several."""
    if get_origin(hint) in (Union, types.UnionType):
        (hint,) = [option for option in get_args(hint) if option is not types.NoneType]
    if get_origin(hint) in (list, tuple):
        return get_args(hint)[0], True
    return hint, False
