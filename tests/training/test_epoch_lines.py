import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from memlight.training.fit import EpochLines
from tests.tiny_pair import fit


def test_one_line_an_epoch_with_losses_and_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    metrics = {"train/loss": torch.tensor(2.5), "val/loss": torch.tensor(3.25), "lr-SGD": torch.tensor(0.1)}
    trainer = cast(Any, SimpleNamespace(current_epoch=4, max_epochs=60, callback_metrics=metrics))
    lines = EpochLines()
    lines.on_train_epoch_start(trainer, cast(Any, None))
    lines.on_train_epoch_end(trainer, cast(Any, None))
    printed = capsys.readouterr().out
    assert re.fullmatch(r"epoch 5/60  train/loss 2\.5  val/loss 3\.25  \d+\.\d s  0 min left\n", printed)


def test_a_training_without_a_terminal_prints_lines_and_no_bar(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(tmp_path / "run", "--trainer.max_epochs=1") == 0
    output = capsys.readouterr()
    assert re.search(r"^epoch 1/", output.out, flags=re.MULTILINE)
    assert "it/s" not in output.err
