"""JSON and YAML by schema: one line that names file and field, whatever the file holds."""

from pathlib import Path
from typing import Any, NotRequired, TypedDict

import pytest

from memlight.errors import UserError
from memlight.storage.documents import YAML_DEPTH, WrongField, parse_json, parse_yaml
from memlight.storage.tables import read_json, read_yaml_config


class Inner(TypedDict):
    count: int


class Schema(TypedDict):
    name: str
    inner: Inner
    share: NotRequired[float | None]


def test_a_field_of_another_type_is_named_with_its_file_and_a_way_out(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    path.write_text('{"name": "a", "inner": {"count": "3"}}')
    with pytest.raises(UserError) as caught:
        read_json(path, Schema)
    line = f"--run: {path}: field inner.count: expected int, got str; run the command that makes it again."
    assert caught.value.in_flags("--{}".format) == line


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"inner": {"count": 1}}', "field name is missing"),
        ('{"name": "a", "inner": {}}', "field inner.count is missing"),
        ('{"name": "a", "inner": {"count": true}}', "field inner.count: expected int, got bool"),
        ('{"name": "a", "inner": {"count": 1.5}}', "field inner.count: expected int, got float"),
        ('{"name": "a", "inner": {"count": 1}, "share": "x"}', "field share: expected float | null, got str"),
        ("[]", "expected object, got array"),
        ("null", "expected object, got null"),
    ],
)
def test_what_the_schema_says_of_each_field(text: str, words: str) -> None:
    with pytest.raises(WrongField) as caught:
        parse_json(text, Schema)
    assert str(caught.value) == words


def test_unknown_keys_are_kept() -> None:
    text = '{"name": "a", "inner": {"count": 1, "newer": [1]}, "also": null}'
    assert parse_json(text, Schema) == {"name": "a", "inner": {"count": 1, "newer": [1]}, "also": None}


def test_names_that_are_no_unicode_come_back() -> None:
    """Names of files may have bytes that are no UTF-8, which Python keeps as lone surrogates."""
    assert parse_json('["\\udcff"]', list[str]) == ["\udcff"]


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a": ' * 100_000,
        b"1" * 10_000,
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": "\xff"}',
        b'{"a": ',
        b"",
        b"\0" * 100,
    ],
)
def test_what_is_no_json_is_one_error(data: bytes) -> None:
    with pytest.raises(ValueError):
        parse_json(data, dict[str, Any])


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + at)}: &{chr(98 + at)} [{','.join(['*' + chr(97 + at)] * 9)}]\n" for at in range(9)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (BOMB, "those that aliases repeat included"),
        ("a: &a [*a]", "holds itself"),
        ("a: &a {b: [*a]}", "holds itself"),
        ("a: " + "[" * 100_000, f"nest deeper than {YAML_DEPTH}"),
        ("- " * 10_000, f"nest deeper than {YAML_DEPTH}"),
        ("a: " + "{b: " * 10_000, f"nest deeper than {YAML_DEPTH}"),
        ("a: " + "1:" * 50_000 + "1", "without quotes"),
        ("a: 2020-99-99", "month must be"),
        ("a: !!python/object/apply:os.getcwd []", "in line 1: could not determine a constructor"),
        ("a: [1\nb: 2", "not valid YAML in line 2"),
        ("a: *b", "undefined alias"),
        ("- a", "expected object, got array"),
    ],
)
def test_yaml_is_small_and_plain(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_yaml(text.encode(), dict[str, Any])


def test_aliases_that_stay_small_are_read(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("optim: &optim {lr: 1.0}\na: {<<: *optim, b: 2}\nc: [*optim, *optim]\n")
    both = {"lr": 1.0}
    assert read_yaml_config(path, dict) == {"optim": both, "a": {"lr": 1.0, "b": 2}, "c": [both, both]}
