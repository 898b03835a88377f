"""JSON and YAML by schema: what is malformed, too deep or of another type is said in words that name the field.

A schema is a type: a `TypedDict`, or anything else of which `msgspec` can tell whether a value is one. Keys that a
schema does not know are kept, so that files of newer versions open.
"""

import json
import re
from pathlib import Path
from typing import Any, NoReturn, TypedDict, TypeVar, get_type_hints

import msgspec
import yaml

from memlight.storage.opening import read_limited

T = TypeVar("T")

JSON_BYTES = 1 << 30
"""The largest JSON file; the names of ten million images take half of it."""

YAML_BYTES = 1 << 20
"""The largest YAML file."""

YAML_DEPTH = 64
"""Lists and mappings within each other in a YAML file, at most."""

YAML_NODES = 50_000
"""Values in a YAML file, those that an alias repeats counted each time."""

YAML_WORD = 4000
"""Characters of a value without quotes in a YAML file, at most."""


class WrongField(ValueError):
    """A value of another type than the schema says; the message names the field."""


def read_json_file(path: Path, schema: type[T], most: int = JSON_BYTES) -> T:
    """Read a JSON file.

    Args:
        path: the file.
        schema: the type of its value.
        most: bytes that it may have.

    Raises:
        OSError: there is no such file, it may not be read, or is too large.
        ValueError: it is not JSON.
        WrongField: a field is missing or of another type.
    """
    return parse_json(read_limited(path, most), schema)


def parse_json(text: str | bytes, schema: type[T]) -> T:
    """The value of a JSON text; raises ``ValueError`` and `WrongField` as `read_json_file`."""
    try:
        value = json.loads(text if isinstance(text, str) else text.decode(), parse_constant=_refuse_constant)
    except RecursionError as error:
        raise ValueError("not JSON of ours: its brackets nest too deep") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 text (byte {error.start})") from error
    return checked(value, schema)


def checked(value: object, schema: type[T]) -> T:
    """The same value where it is of the schema's type, keys that the schema does not know included.

    Raises:
        WrongField: names the field that is missing or of another type.
    """
    try:
        msgspec.convert(value, schema)
    except msgspec.ValidationError as error:
        raise WrongField(_in_words(str(error))) from error
    except RecursionError as error:
        raise WrongField("it nests too deep") from error
    return value  # type: ignore[return-value]


def arguments_of(kind: type) -> Any:
    """The schema of a constructor's arguments, none of which is required."""
    hints = get_type_hints(kind.__init__)  # type: ignore[misc]
    named = {name: hint for name, hint in hints.items() if name != "return"}
    return TypedDict("Arguments", named, total=False)  # type: ignore[operator]


def read_yaml_file(path: Path, schema: type[T]) -> T:
    """Read a YAML file.

    Raises:
        OSError: there is no such file, it may not be read, or is too large.
        ValueError: it is not YAML of plain values, nests too deep, holds itself, or repeats too much by aliases.
        WrongField: a field is missing or of another type.
    """
    return parse_yaml(read_limited(path, YAML_BYTES), schema)


def parse_yaml(text: bytes, schema: type[T]) -> T:
    """The value of a YAML text; raises ``ValueError`` and `WrongField` as `read_yaml_file`."""
    try:
        decoded = text.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 text (byte {error.start})") from error
    try:
        _require_small(decoded)
        return checked(yaml.safe_load(decoded), schema)
    except yaml.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None) or error
        where = f" in line {mark.line + 1}" if mark else ""
        raise ValueError(f"not valid YAML{where}: {' '.join(str(problem).split())}") from error


def _require_small(text: str) -> None:
    """Refuse a text whose value would be large or endless, from its events alone: no value is made yet."""
    sizes: dict[str, int] = {}
    counted = [0]
    anchors: list[str | None] = []
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            anchors.append(event.anchor)
            counted.append(1)
            if len(anchors) > YAML_DEPTH:
                _refuse(event, f"lists and mappings nest deeper than {YAML_DEPTH}")
        elif isinstance(event, yaml.CollectionEndEvent):
            size = counted.pop()
            if anchor := anchors.pop():
                sizes[anchor] = size
            counted[-1] += size
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor in anchors:
                _refuse(event, f"*{event.anchor} holds itself")
            counted[-1] += sizes.get(str(event.anchor), 1)
        elif isinstance(event, yaml.ScalarEvent):
            counted[-1] += 1
            if event.anchor:
                sizes[event.anchor] = 1
            if event.style is None and len(event.value) > YAML_WORD:
                _refuse(event, f"a value of {len(event.value)} characters without quotes")
        if sum(counted) > YAML_NODES:
            _refuse(event, f"more than {YAML_NODES} values, those that aliases repeat included")


def _refuse(event: yaml.Event, why: str) -> NoReturn:
    raise yaml.MarkedYAMLError(problem=why, problem_mark=event.start_mark)  # type: ignore[arg-type]


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not JSON")


def _in_words(message: str) -> str:
    """``Expected `int`, got `str` - at `$.a[0]` `` as ``field a[0]: expected int, got str``."""
    said, _, path = message.replace("`", "").partition(" - at ")
    field = re.sub(r"^(key in )?\$\.?", r"\1", path)
    if missing := re.fullmatch(r"Object missing required field (.*)", said):
        whole = ".".join(filter(None, [field, missing[1]]))
        return f"field {whole} is missing"
    said = said[:1].lower() + said[1:]
    return f"field {field}: {said}" if field else said
