"""Tables and JSON: exact, typed, and whole or not there at all."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from memlight.analyses.layermem.columns import LAYERMEM_SAMPLES
from memlight.analyses.probe.columns import PROBE_TABLE
from memlight.analyses.unitmem.columns import UNITMEM_LAYERS, UNITMEM_TABLE
from memlight.errors import UserError
from memlight.storage.schema import Column, required
from memlight.storage.tables import read_json, read_table, read_yaml_config, write_json, write_table, write_text
from memlight.storage.writing import atomic_write
from tests.synthetic_run import probe_table, unitmem_layers, unitmem_table


def test_every_number_comes_back_exactly_and_typed(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    n = 200
    table = {
        "id": rng.integers(0, 2**62, n),
        "split": rng.choice(["candidate", "external"], n),
        "label": np.full(n, -1),
        "layer": np.full(n, "0"),
        "align_f": np.exp(rng.normal(0, 40, n)),
        "align_g": rng.random(n).astype(np.float32),
        "score": np.where(rng.random(n) < 0.1, np.nan, rng.random(n)),
    }
    write_table(tmp_path / "samples.csv", table, LAYERMEM_SAMPLES)
    back = read_table(tmp_path / "samples.csv", LAYERMEM_SAMPLES)
    for name, column in table.items():
        np.testing.assert_array_equal(back[name], column)
    kinds = [back[name].dtype.kind for name in required(LAYERMEM_SAMPLES)]
    assert kinds == ["i", "U", "i", "U", "f", "f", "f"]


def test_dead_units_are_booleans_even_when_all_are_alike(tmp_path: Path) -> None:
    table = unitmem_table(np.random.default_rng(0))
    table["dead"][:] = False
    write_table(tmp_path / "table.csv", table, UNITMEM_TABLE)
    assert read_table(tmp_path / "table.csv")["dead"].dtype == np.bool_


def test_only_documented_columns_may_be_missing(tmp_path: Path) -> None:
    layers = unitmem_layers(unitmem_table(np.random.default_rng(0)))
    single = {name: column for name, column in layers.items() if not name.startswith(("unit_contrast", "own_max"))}
    write_table(tmp_path / "layers.csv", single, UNITMEM_LAYERS)
    assert list(read_table(tmp_path / "layers.csv", UNITMEM_LAYERS)) == list(UNITMEM_LAYERS)[:14]
    del single["null_mean"]
    with pytest.raises(ValueError, match="null_mean"):
        write_table(tmp_path / "layers.csv", single, UNITMEM_LAYERS)
    with pytest.raises(ValueError, match="extra"):
        write_table(tmp_path / "probe.csv", probe_table() | {"extra": np.zeros(4)}, PROBE_TABLE)
    with pytest.raises(ValueError, match="equal length"):
        write_table(tmp_path / "probe.csv", probe_table() | {"top1": np.zeros(3)}, PROBE_TABLE)


def test_an_empty_table_keeps_its_columns(tmp_path: Path) -> None:
    write_table(tmp_path / "empty.csv", {name: np.array([]) for name in PROBE_TABLE}, PROBE_TABLE)
    assert [len(column) for column in read_table(tmp_path / "empty.csv", PROBE_TABLE).values()] == [0] * 7


@pytest.mark.parametrize("damage", [lambda text: text[:-3], lambda text: text + "1,2\n", lambda text: ""])
def test_a_damaged_table_is_refused(tmp_path: Path, damage: object) -> None:
    path = tmp_path / "table.csv"
    write_table(path, probe_table(), PROBE_TABLE)
    path.write_text(damage(path.read_text()))  # type: ignore[operator]
    with pytest.raises(UserError, match=r"run: .*table\.csv.*run the command that makes it again"):
        read_table(path)


def test_another_table_or_none_is_refused(tmp_path: Path) -> None:
    write_table(tmp_path / "probe.csv", probe_table(), PROBE_TABLE)
    with pytest.raises(UserError, match="has columns"):
        read_table(tmp_path / "probe.csv", UNITMEM_TABLE)
    with pytest.raises(UserError, match="cannot be read"):
        read_table(tmp_path / "nothing.csv")


def test_an_exception_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError), atomic_write(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_a_killed_process_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_text(path, "old")
    code = (
        "import os, signal, pathlib; from memlight.storage.tables import atomic_write\n"
        f"with atomic_write(pathlib.Path({str(path)!r})) as t:\n"
        "    t.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    assert path.read_text() == "old"


def test_files_can_be_read_by_whoever_may_read_others(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "a")
    (tmp_path / "b").touch()
    assert os.stat(tmp_path / "a").st_mode == os.stat(tmp_path / "b").st_mode


def test_json_is_plain_even_from_numpy_and_nan(tmp_path: Path) -> None:
    value = {"a": np.float64(0.1), "b": np.arange(2), 3: [np.nan, np.bool_(True)], "path": tmp_path, "none": None}
    write_json(tmp_path / "x.json", value)
    expected = {"a": 0.1, "b": [0, 1], "3": [None, True], "path": str(tmp_path), "none": None}
    assert json.loads((tmp_path / "x.json").read_text()) == expected == read_json(tmp_path / "x.json", dict)


SEPARATORS = "\n\r\t\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"


def test_names_with_any_line_separator_and_of_any_length_come_back(tmp_path: Path) -> None:
    names = [f"a{letter}b" for letter in SEPARATORS] + ["\r\n", '"', ",", "x" * 200_000, ""]
    table = {"layer": np.array(names), "depth": np.arange(len(names))}
    schema = {"layer": Column(str), "depth": Column(int)}
    write_table(tmp_path / "table.csv", table, schema)
    for found in (read_table(tmp_path / "table.csv", schema), read_table(tmp_path / "table.csv")):
        assert found["layer"].tolist() == names
        assert found["depth"].tolist() == list(range(len(names)))


@pytest.mark.parametrize("content", [b"\0\n" * 5, b"", b'a,b\n"\n'])
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "table.csv").write_bytes(content)
    for schema in (PROBE_TABLE, None):
        with pytest.raises(UserError, match=r"table\.csv"):
            read_table(tmp_path / "table.csv", schema)


def test_damaged_json_and_yaml_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    path.write_text('{"a": ')
    with pytest.raises(UserError, match=r"summary\.json cannot be read"):
        read_json(path, dict)
    path.write_text("- a list")
    with pytest.raises(UserError, match="expected object, got array"):
        read_yaml_config(path, dict)
    path.write_text("a: {b: 1}")
    assert read_yaml_config(path, dict) == {"a": {"b": 1}}


def test_names_that_are_not_utf8_come_back_as_they_were(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff\xfe \xe2\x80\xa8.png")
    schema = {"name": Column(str)}
    write_table(tmp_path / "a.csv", {"name": np.array([name, "\n"])}, schema)
    assert read_table(tmp_path / "a.csv", schema)["name"].tolist() == [name, "\n"]
    assert os.fsencode(name) in (tmp_path / "a.csv").read_bytes()
    write_text(tmp_path / "page.html", f"<p>{name}</p>")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == "<p>\\udcff\\udcfe \u2028.png</p>"
