"""A run whose files were edited or damaged: one line that names the file and the field, and no file changed."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from memlight.analyses.unit.objectives import load_method
from memlight.analyses.unitmem.resume import PassProgress
from memlight.errors import UserError
from memlight.models.encoders import load_encoder, read_metadata, save_encoder
from memlight.runs.log import AnalysisLog
from memlight.sequences.results import SequenceResults
from memlight.storage.rundir import RunDir
from memlight.storage.tables import read_json
from tests.sequence_runs import sequence_results
from tests.synthetic_run import analyse, make_trained
from tests.test_bad_input import only_line
from tests.tiny_pair import analyze


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A run with made-up results, whose figures take longest; tests change copies."""
    run = make_trained(tmp_path_factory.mktemp("made") / "run")
    with patch.object(AnalysisLog, "figure"):
        analyse(run)
    return run


@pytest.fixture
def analysed(drawn: RunDir, tmp_path: Path) -> RunDir:
    """A copy of such a run."""
    return RunDir(shutil.copytree(drawn.root, tmp_path / "run"))


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def edited(path: Path, change: Callable[[Any], Any]) -> None:
    content = json.loads(path.read_text())
    path.write_text(json.dumps(change(content)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda splits: [], "expected object, got array"),
        (lambda splits: {**splits, "candidate": ["1"]}, "field candidate[0]: expected int, got str"),
        (lambda splits: {**splits, "candidate": [True]}, "field candidate[0]: expected int, got bool"),
        (lambda splits: {**splits, "candidate": {"a": 1}}, "field candidate: expected array, got object"),
        (lambda splits: {**splits, "shared": [-1]}, "field shared[0]: expected int >= 0"),
        (lambda splits: {k: v for k, v in splits.items() if k != "external"}, "field external is missing"),
        (lambda splits: {**splits, "candidate": [2**70]}, "was edited or is damaged"),
    ],
)
def test_splits(run: Path, change: Callable[[Any], Any], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    edited(RunDir(run).splits, change)
    before = contents(run)
    assert analyze(run, "layermem") == 2
    line = only_line(capsys)
    assert line.startswith(f"--run: {run}/splits.json") and words in line
    assert contents(run) == before


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"num_shared": "x"}, "data: field num_shared: expected int, got str"),
        ({"mean": [1]}, "data: field mean: expected array of length 3, got 1"),
        ({"memory_limit_gb": "x"}, "data: field memory_limit_gb: expected float, got str"),
        ({"std": [0.0, 0.0, 0.0]}, "must be above 0"),
        ({"image_size": 10**6}, "image_size 1000000: "),
    ],
)
def test_data_of_the_metadata(run: Path, data: dict[str, Any], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    for role in ("candidate", "independent"):
        path = RunDir(run).member(role).encoder
        record = read_metadata(path)
        save_encoder(path, load_encoder(path), {**record, "data": {**record["data"], **data}})
    before = contents(run)
    assert analyze(run, "layermem") == 2
    assert words in only_line(capsys)
    assert contents(run) == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda summary: {}, "field command_line is missing"),
        (lambda summary: {**summary, "seconds": "x"}, "field seconds: expected float | null, got str"),
        (lambda summary: {**summary, "figures": [1]}, "field figures: expected object, got array"),
        (lambda summary: {**summary, "figures": {"../../x": "y"}}, "key in figures: expected str matching"),
    ],
)
def test_a_report_of_an_edited_summary(
    analysed: RunDir, change: Callable[[Any], Any], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    edited(analysed.analysis("layermem").summary, change)
    before = contents(analysed.root)
    assert analyze(analysed.root, "report") == 2
    line = only_line(capsys)
    assert line.startswith(f"--run: {analysed.analysis('layermem').summary}: ") and words in line
    assert contents(analysed.root) == before


def test_a_report_of_a_table_without_rows(analysed: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    path = analysed.analysis("layermem").table()
    path.write_text(path.read_text().partition("\n")[0] + "\n")
    assert analyze(analysed.root, "report") == 2
    assert "its parts do not fit" in only_line(capsys)


def test_a_configuration_names_a_method_and_nothing_else(run: Path, tmp_path: Path) -> None:
    """Whatever class_path names is called only where it is a training method."""
    witness = tmp_path / "witness"
    config = {"model": {"class_path": "os.mkdir", "init_args": {"path": str(witness)}}}
    RunDir(run).config.write_text(json.dumps(config))
    with pytest.raises(UserError, match="mkdir is not a training method of memlight"):
        load_method(RunDir(run), "candidate")
    assert not witness.exists()


def test_results_of_sequences_belong_together(tmp_path: Path) -> None:
    sequence_results().write(tmp_path)
    with np.load(tmp_path / "results.npz") as file:
        arrays = dict(file)
    changes = {
        "set_loss": (arrays["set_loss"][..., :-1], "set_loss has"),
        "seeds": (np.array(["a"]), "seeds is <U1"),
        "events": (np.array("[1]"), "expected object, got int"),
        "args": (np.array("[" * 100_000), "nest too deep"),
        "unknown": (np.zeros(1), "unknown"),
    }
    for name, (array, words) in changes.items():
        np.savez(tmp_path / "results.npz", **{**arrays, name: array})
        with pytest.raises(UserError, match=f"results.npz or sequences.npz cannot be read .*{words}"):
            SequenceResults.read(tmp_path)


def test_a_saved_state_of_unitmem_that_is_damaged_is_named(tmp_path: Path) -> None:
    for header, words in (({"done": "x"}, "made_from"), ({"made_from": "{}", "done": "-1"}, ">= 0")):
        save_file({"ids": torch.zeros(1)}, tmp_path / "own-0.safetensors", metadata=header)
        with pytest.raises(UserError, match=rf"own-0.safetensors, which .* is damaged .*{words}.*delete it"):
            PassProgress(tmp_path / "own-0", 1, {}, False)


def test_a_page_is_not_written_over_a_directory(analysed: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    analysed.report.mkdir()
    assert analyze(analysed.root, "report") == 2
    assert "a directory, where a file is to be written" in only_line(capsys)
    assert os.listdir(analysed.report) == [] and read_json(analysed.splits, dict)["format"] == 1
