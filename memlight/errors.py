"""The one exception that means: the user can fix this. It names an argument; the two mains say which flag that is."""

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

_TOKEN = re.compile(r"`([A-Za-z_][\w.]*)(=[^`]*)?`")
"""An argument in the text of an error: `` `views` ``, or with a value that helps, `` `download=True` ``."""

_PARTS = ("", "data.", "model.", "trainer.", "model.optim.", "trainer.callbacks.")
"""Where the arguments of the library's classes stand on the command line of train.py."""

FlagOf = Callable[[str], str | None]
"""The flag for an argument's Python name; None where the command has no such flag."""


class UserError(Exception):
    """A mistake in what the user asked for or gave us.

    In Python the message names arguments as Python does; ``train.py`` and ``analyze.py`` print `in_flags` of it as
    ``error: ...`` and exit with status 2::

        raise UserError("topk", topk, "must be 1 or more")
        # in a notebook:  topk=0: must be 1 or more.
        # analyze.py:     error: --topk 0: must be 1 or more.

        raise UserError("root", root, "no cifar10 here", ["fetch it with `download=True`", "choose another `root`"])
        # train.py:       error: --data.root x: no cifar10 here; fetch it with --data.download true, or choose another
        #                 --data.root.
        # analyze.py, which downloads nothing:  error: --root x: no cifar10 here; choose another --root.

    Args:
        argument: name of the argument that is wrong, as Python spells it, or several with commas between them. A
            message that is about no argument is given whole, with nothing else.
        value: what was given; None where the message does not need it.
        why: what is wrong with it. Other arguments stand in backticks.
        way_out: what to do instead, or several ways. A way that gives an argument a value, as `` `download=True` ``
            does, is left out by a command that has no flag for it.

    Attributes:
        argument: as above, and so are ``value``, ``why`` and ``way_out``.
        flags: every flag of the command line that was used, where a parser has noted them here; None otherwise.
    """

    def __init__(self, argument: str, value: object = None, why: str = "", way_out: str | Sequence[str] = ()) -> None:
        super().__init__(argument, value, why, way_out)
        self.argument, self.value, self.why = argument, value, why
        self.way_out = [way_out] if isinstance(way_out, str) else list(way_out)
        self.flags: Collection[str] | None = None

    def __str__(self) -> str:
        shown = repr(self.value) if isinstance(self.value, str) else _text(self.value)
        given = "" if self.value is None else f"={shown}"
        return self._sentence(f"{self.argument}{given}", self.why, self.way_out)

    def in_flags(self, flag_of: FlagOf) -> str:
        """The message for somebody at a command line, on one line.

        Args:
            flag_of: the flags that the command has.
        """

        def token(found: re.Match[str]) -> str:
            name, value = found[1], (found[2] or "").removeprefix("=").strip("'\"")
            flag, off = flag_of(name), flag_of(f"no_{name}")
            if flag is None:
                return found[0] if value else name
            if off and value in ("True", "False"):  # a switch, as argparse has them
                return flag if value == "True" else off
            return f"{flag} {value.lower() if value in ('True', 'False') else value}".rstrip()

        names = [name.strip() for name in self.argument.split(",")] if self.why else []
        head = ", ".join(flag_of(name) or name for name in names)
        given = "" if self.value is None else f" {_text(self.value)}"
        offers = [way for way in self.way_out if all(flag_of(name) for name, value in _TOKEN.findall(way) if value)]
        why = self.why if self.why else self.argument
        said = [_TOKEN.sub(token, text) for text in (why, *offers)]
        text = self._sentence(f"{head}{given}", said[0], said[1:]) if self.why else said[0]
        return " ".join(text.split())

    def renamed(self, names: Mapping[str, str]) -> "UserError":
        """The same mistake, where arguments have other names: of a function that passed its own on."""

        def token(found: re.Match[str]) -> str:
            return f"`{names.get(found[1], found[1])}{found[2] or ''}`"

        argument = ", ".join(names.get(name.strip(), name.strip()) for name in self.argument.split(","))
        why, *ways = (_TOKEN.sub(token, text) for text in (self.why, *self.way_out))
        return UserError(argument if self.why else self.argument, self.value, why, ways)

    def _sentence(self, head: str, why: str, ways: Sequence[str]) -> str:
        if not self.why:
            return self.argument
        text = f"{head}: {why}" if head else why
        if ways:
            text = f"{text.removesuffix('.')}; {', or '.join(way.removesuffix('.') for way in ways)}"
        return text if text.endswith((".", "?", "`")) else f"{text}."


@contextmanager
def named(**names: str) -> Iterator[None]:
    """Within this block an argument has another name: ``named(root="donor_root")`` says ``donor_root`` for ``root``."""
    try:
        yield
    except UserError as error:
        raise error.renamed(names) from error


def at_least(minimum: float, **values: float) -> None:
    """Refuse numbers below ``minimum``; each is given under its argument's name.

    Raises:
        UserError: names the first that is too small.
    """
    for name, value in values.items():
        if not value >= minimum:
            raise UserError(name, value, f"must be {minimum} or more")


def at_most(maximum: float, **values: float) -> None:
    """Refuse numbers above ``maximum``; each is given under its argument's name.

    Raises:
        UserError: names the first that is too large.
    """
    for name, value in values.items():
        if not value <= maximum:
            raise UserError(name, value, f"must be {maximum} or less")


def positive(**values: float) -> None:
    """Refuse numbers that are not above 0; each is given under its argument's name.

    Raises:
        UserError: names the first of them.
    """
    for name, value in values.items():
        if not value > 0:
            raise UserError(name, value, "must be above 0")


def below_one(**values: float) -> None:
    """Refuse numbers outside of [0, 1); each is given under its argument's name.

    Raises:
        UserError: names the first of them.
    """
    for name, value in values.items():
        if not 0 <= value < 1:
            raise UserError(name, value, "must be 0 or more, and below 1")


def flag_among(flags: Collection[str]) -> FlagOf:
    """Look arguments up among the flags of a parser, which may spell them with hyphens and put a part before them.

    An argument that is named with its class, as ``DataSwitch.at``, is one of a callback in train.py.

    Args:
        flags: such as ``--view-set``, ``--data.batch_size``.
    """

    def flag_of(name: str) -> str | None:
        place, _, last = name.rpartition(".")
        if place[:1].isupper():
            return f"--trainer.callbacks {name}" if "--trainer.callbacks" in flags else None
        for spelled in (name, *(f"{part}{last}" for part in _PARTS)):
            for flag in (f"--{spelled}", f"--{spelled.replace('_', '-')}"):
                if flag in flags:
                    return flag
        return None

    return flag_of


def user_error_behind(error: BaseException | None) -> UserError | None:
    """The `UserError` that others were raised from; None if there is none."""
    while error is not None and not isinstance(error, UserError):
        error = error.__cause__
    return error


def _text(value: object) -> str:
    if isinstance(value, list | tuple):
        return " ".join(map(str, value))
    return str(value)
