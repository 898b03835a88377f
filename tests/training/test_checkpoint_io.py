"""A member has one writer, its checkpoints are whole, and a run that goes away is missed."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import lightning.pytorch as L
import pytest
import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import nn

from memlight.errors import UserError
from memlight.storage.locks import WriterLock
from memlight.storage.rundir import RunDir
from memlight.training.checkpoint_io import WholeCheckpointIO, write_whole_checkpoints
from memlight.training.preflight import require_room
from tests.storage.test_writing import small_disk
from tests.tiny_pair import callback_flags, fit


class Removes(L.Callback):
    """Removes the run after the first epoch."""

    def __init__(self, run: str) -> None:
        self.run = run

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.current_epoch == 1:
            shutil.rmtree(self.run)


def test_a_full_disk_keeps_the_checkpoint_before(tmp_path: Path) -> None:
    path = tmp_path / "candidate" / "checkpoints" / "last.ckpt"
    io = WholeCheckpointIO(None)
    io.save_checkpoint({"epoch": 1}, path)
    with (
        small_disk(),
        pytest.raises(UserError, match=r"candidate: the disk is full, so last.ckpt was not"),
    ):
        io.save_checkpoint({"epoch": 2, "weights": torch.zeros(10_000)}, path)
    assert io.load_checkpoint(path) == {"epoch": 1}
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]


def test_nothing_is_written_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "not there"))
    WholeCheckpointIO(None).save_checkpoint({"epoch": 1}, tmp_path / "last.ckpt")
    assert torch.load(tmp_path / "last.ckpt") == {"epoch": 1}


def test_a_users_own_way_to_write_checkpoints_is_kept() -> None:
    class Own(TorchCheckpointIO):
        pass

    kept, ours = L.Trainer(plugins=[Own()], logger=False), L.Trainer(logger=False)
    for trainer in (kept, ours):
        write_whole_checkpoints(trainer, None)
    assert type(kept.strategy.checkpoint_io) is Own
    assert type(ours.strategy.checkpoint_io) is WholeCheckpointIO


def test_a_member_that_is_being_trained_is_refused_before_anything_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    member = RunDir(tmp_path / "run").member("candidate")
    with WriterLock(member.lock, member.dir):
        assert fit(tmp_path / "run") == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"error: --run {member.dir}: is being written by process ")
        assert [path.name for path in (tmp_path / "run").rglob("*")] == ["candidate", ".lock"]
    assert not (tmp_path / "run").exists()


def test_a_run_that_was_removed_is_said_and_not_made_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    removes = callback_flags("tests.training.test_checkpoint_io.Removes", run=tmp_path / "run")
    assert fit(tmp_path / "run", *removes) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"error: --run {tmp_path / 'run' / 'candidate'}: was removed or moved while it was being")
    assert not (tmp_path / "run").exists()


def test_checkpoints_that_do_not_fit_are_refused_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1_000_000))
    assert fit(tmp_path / "run") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "candidate: its checkpoints do not fit on the disk:" in line and "1 MB are free; make room" in line
    assert "--keep_every" in line and not (tmp_path / "run").exists()


def test_checkpoints_that_are_there_need_no_more_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, member = nn.Linear(999, 1000), RunDir(tmp_path).member("candidate")  # 8 MB with its momentum
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=41_000_000))
    require_room(member, model, epochs=30, keep_every=10)  # three kept, last.ckpt, and one while it is written
    with pytest.raises(UserError, match="do not fit"):
        require_room(member, model, epochs=40, keep_every=10)
    member.checkpoints.mkdir(parents=True)
    (member.checkpoints / "epoch=9.ckpt").touch()
    require_room(member, model, epochs=40, keep_every=10)
