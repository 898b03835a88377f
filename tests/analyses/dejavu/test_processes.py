"""Deja Vu and atypical images in two processes."""

from pathlib import Path

import pytest

from memlight.storage.rundir import RunDir
from tests.ddp import run_ddp
from tests.tiny_pair import THREE_LAYERS, analyze, assert_same_tables

COMMANDS = {"dejavu": ["placebos", "samples", "table"], "atypical": ["fifths", "groups", "images", "table"]}


def analyze_both(run: str, tag: str) -> list[int]:
    layers = {"dejavu": THREE_LAYERS}
    return [analyze(Path(run), command, f"--tag={tag}", *layers.get(command, [])) for command in COMMANDS]


@pytest.mark.ddp
def test_two_processes_give_the_tables_of_one(trained: RunDir) -> None:
    for tag in ("one", "two"):
        assert analyze(trained.root, "layermem", f"--tag={tag}", *THREE_LAYERS) == 0
    assert analyze_both(str(trained.root), "one") == [0, 0]
    assert run_ddp(analyze_both, 2, str(trained.root), "two") == [[0, 0], [0, 0]]
    for command, tables in COMMANDS.items():
        assert_same_tables(trained.analysis(command, "one"), trained.analysis(command, "two"), tables)
