"""Analyses in two processes, and in one that is killed."""

import os
import signal
from pathlib import Path
from unittest.mock import patch

import pytest

from memlight.storage import writing
from memlight.storage.rundir import RunDir
from tests.ddp import run_ddp
from tests.tiny_pair import THREE_LAYERS, UNITMEM_TABLES, analyze, assert_same_tables, table_bytes

COMMANDS = {
    "layermem": ["agreement", "intervals", "membership", "placebos", "samples", "table", "tests"],
    "unitmem": [*UNITMEM_TABLES, "curve"],
    "probe": ["table"],
}


def analyze_all(run: str, tag: str) -> list[int]:
    layers = {"layermem": THREE_LAYERS, "unitmem": THREE_LAYERS, "probe": []}
    return [analyze(Path(run), command, f"--tag={tag}", *layers[command]) for command in COMMANDS]


@pytest.mark.ddp
def test_two_processes_give_the_tables_of_one(trained: RunDir) -> None:
    assert analyze_all(str(trained.root), "one-process") == [0, 0, 0]
    assert run_ddp(analyze_all, 2, str(trained.root), "two-processes") == [[0, 0, 0], [0, 0, 0]]
    for command, tables in COMMANDS.items():
        one, two = (trained.analysis(command, tag) for tag in ("one-process", "two-processes"))
        assert_same_tables(one, two, tables, answers=15 if command == "probe" else 0)


def killed(run: str) -> None:
    """The power goes when all is written and nothing is in its place yet."""
    with patch.object(writing, "replace_directory", lambda new, old: os.kill(os.getpid(), signal.SIGKILL)):
        analyze(Path(run), "layermem", "--layers=layer2")


@pytest.mark.ddp
def test_a_killed_analysis_leaves_the_older_results(run: Path) -> None:
    assert analyze(run, "layermem", "--layers=layer1") == 0
    done = RunDir(run).analysis("layermem")
    before, summary = table_bytes(done), done.summary.read_bytes()
    with pytest.raises(RuntimeError, match="rank 0 ended without an answer"):
        run_ddp(killed, 1, str(run))
    assert (table_bytes(done), done.summary.read_bytes()) == (before, summary)
    assert [found.dir for found in RunDir(run).analyses("layermem")] == [done.dir]
    assert analyze(run, "layermem", "--layers=layer2") == 0  # and it can be done again
    assert table_bytes(done) != before
    assert [path.name for path in (run / "analysis").iterdir()] == ["layermem"]
    assert analyze(run, "report") == 0
