"""Mistakes in a command of analyze.py are one line that names the flag, and leave nothing behind."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from memlight.rundir import RunDir
from memlight.tables import read_json, write_json
from tests.tiny_pair import analyze


def nothing(run: Path) -> None:
    """A sound run."""


def no_partner(run: Path) -> None:
    shutil.rmtree(run / "independent")


def no_run(run: Path) -> None:
    shutil.rmtree(run)


def untrained(run: Path) -> None:
    for role in ("candidate", "independent"):
        RunDir(run).member(role).encoder.unlink()


def truncated(run: Path) -> None:
    path = RunDir(run).member("candidate").encoder
    path.write_bytes(path.read_bytes()[:-1000])


def edited_splits(run: Path) -> None:
    splits = read_json(RunDir(run).splits)
    splits["candidate"][0], splits["independent"][0] = splits["independent"][0], splits["candidate"][0]
    write_json(RunDir(run).splits, splits)


def other_partner(run: Path) -> None:
    shutil.copy(RunDir(run).member("candidate").encoder, RunDir(run).member("independent").encoder)


@pytest.mark.parametrize(
    ("command", "prepare", "flags", "words"),
    [
        ("layermem", nothing, ["--layers", "layer1", "layer9"], "--layers layer9: .*layer8"),
        ("unitmem", nothing, ["--layers", "layr1"], "--layers layr1: .*layer1"),
        ("layermem", nothing, ["--views=1"], "--views 1: "),
        ("unitmem", nothing, ["--views=0"], "--views 0: "),
        ("unitmem", nothing, ["--topk=0"], "--topk 0: "),
        ("unitmem", nothing, ["--view-set=nice"], "--view-set nice: "),
        ("unitmem", nothing, ["--member=all"], "--run .*no all/"),
        ("layermem", nothing, ["--checkpoint=epoch=7"], "--checkpoint epoch=7: .*epoch=1, last"),
        ("layermem", nothing, ["--device=cuda:99"], "--device cuda:99: "),
        ("layermem", nothing, ["--device=abacus"], "--device abacus: "),
        ("layermem", no_partner, [], "--run .*independent"),
        ("layermem", other_partner, [], "--run .*trained as candidate"),
        ("layermem", truncated, [], "--run .*truncated"),
        ("unitmem", edited_splits, [], "--run.*splits.json"),
        ("unitmem", untrained, [], "--run .*encoder.safetensors"),
        ("probe", no_run, [], "--run .*no such directory"),
        ("report", no_run, [], "--run .*no such directory"),
    ],
    ids=lambda value: (
        value.__name__ if callable(value) else "-".join(value).strip("-") if isinstance(value, list) else None
    ),
)
def test_mistakes(
    run: Path,
    command: str,
    prepare: Callable[[Path], None],
    flags: list[str],
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    prepare(run)
    assert analyze(run, command, *flags) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line and "batch/s" not in line]
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert re.search(words, lines[0]), lines[0]
    assert not list(run.glob("analysis/*"))
    assert not (run / "report.html").exists()
