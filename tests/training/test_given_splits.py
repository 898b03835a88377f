"""A training whose splits are given by a file."""

from pathlib import Path

import pytest

from memlight.data.splits import SPLITS, PairSplit
from memlight.models.encoders import read_metadata
from memlight.storage.rundir import RunDir
from tests.tiny_pair import TinyPair, analyze, encoder_state, fit, same_tensors


def table(split: PairSplit, path: Path) -> Path:
    rows = [f"{id_},{name}" for name in SPLITS for id_ in split.ids(name)]
    path.write_text("\n".join(["id,split", *rows, ""]))
    return path


def test_the_splits_of_a_file_train_what_the_same_splits_dealt_out_do(
    plain_pair: TinyPair, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = table(PairSplit.load(RunDir(plain_pair.root).splits), tmp_path / "splits.csv")
    run = tmp_path / "run"
    assert fit(run, f"--data.splits={file}", "--data.randomised=true") == 0
    assert same_tensors(encoder_state(run), encoder_state(plain_pair.root))
    given = PairSplit.load(RunDir(run).splits)
    assert given.order == "file" and given.dealt_at_random
    record = read_metadata(RunDir(run).member("candidate").encoder)
    assert record["split_sha256"] == given.sha256 and "splits" not in record["data"]
    file.unlink()  # the run keeps its splits
    assert analyze(run, "probe") == 0
    moved = table(given, tmp_path / "moved.csv")
    assert fit(run, f"--data.splits={moved}", "--resume=true", "--trainer.max_epochs=3") == 0
    capsys.readouterr()
    moved.write_text(moved.read_text().replace(",candidate", ",none", 1))
    assert fit(run, f"--data.splits={moved}", "--resume=true") == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(tmp_path / "run", "--data.splits=missing.csv") == 2
    said = capsys.readouterr().err
    assert "--data.splits missing.csv: cannot be read" in said and said.count("\n") == 1
    assert not (tmp_path / "run").exists()
