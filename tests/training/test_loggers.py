"""metrics.csv: one row per step, and the same file whether or not the training was interrupted."""

from pathlib import Path

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader

from memlight.storage.tables import read_table
from memlight.training.loggers import MetricsCSV


def train(path: Path, first: int, last: int) -> None:
    """Log as Lightning does: training metrics at every step, held-out ones at every second, at the same step."""
    logger = MetricsCSV(path)
    for step in range(first, last):
        logger.log_metrics({"train/loss": 1 / (step + 3), "epoch": step // 2}, step)
        if step % 2:
            logger.log_metrics({"val/loss": 1 / (step + 7), "epoch": step // 2}, step)


def test_one_row_per_step_with_empty_cells(tmp_path: Path) -> None:
    train(tmp_path / "metrics.csv", 0, 4)
    table = read_table(tmp_path / "metrics.csv")
    np.testing.assert_array_equal(table["step"], [0, 1, 2, 3])
    np.testing.assert_array_equal(table["epoch"], [0, 0, 1, 1])
    np.testing.assert_array_equal(table["train/loss"], [1 / 3, 1 / 4, 1 / 5, 1 / 6])
    np.testing.assert_array_equal(table["val/loss"], [np.nan, 1 / 8, np.nan, 1 / 10])


def test_resumed_equals_uninterrupted(tmp_path: Path) -> None:
    train(tmp_path / "whole.csv", 0, 10)
    train(tmp_path / "resumed.csv", 0, 7)
    with (tmp_path / "resumed.csv").open("a") as file:
        file.write("7,0.1")
    train(tmp_path / "resumed.csv", 4, 10)
    assert (tmp_path / "resumed.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_a_new_metric_extends_the_header(tmp_path: Path) -> None:
    train(tmp_path / "metrics.csv", 0, 4)
    logger = MetricsCSV(tmp_path / "metrics.csv")
    logger.log_metrics({"knn/top1": 0.5}, 3)
    logger.log_metrics({"knn/top1": 0.6, "odd, name": 1.0}, 4)
    table = read_table(tmp_path / "metrics.csv")
    assert list(table) == ["step", "train/loss", "epoch", "val/loss", "knn/top1", "odd, name"]
    np.testing.assert_array_equal(table["knn/top1"], [np.nan, np.nan, np.nan, 0.5, 0.6])
    assert table["val/loss"][3] == 1 / 10
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]


def test_a_sealed_row_survives_a_kill_while_it_is_logged_to_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill leaves what is on the disk when the writer's file is cut: here the write itself is made to fail."""
    logger = MetricsCSV(tmp_path / "metrics.csv")
    logger.log_metrics({"train/loss": 0.5, "val/loss": 0.25}, 3)
    logger.seal()
    sealed = logger.path.read_bytes()
    with monkeypatch.context() as cut:
        cut.setattr("csv.DictWriter.writerow", lambda writer, row: 1 / 0)
        logger.log_metrics({"train/loss": 0.5}, 3)  # nothing new: nothing is written
        with pytest.raises(ZeroDivisionError):
            logger.log_metrics({"train/loss": 0.75}, 3)
    assert logger.path.read_bytes() == sealed
    logger.log_metrics({"train/loss": 0.75}, 3)
    assert read_table(logger.path)["val/loss"].tolist() == [0.25]
    assert read_table(logger.path)["train/loss"].tolist() == [0.75]


def test_rows_after_the_checkpoint_are_dropped_whatever_is_logged_next(tmp_path: Path) -> None:
    train(tmp_path / "metrics.csv", 0, 7)
    logger = MetricsCSV(tmp_path / "metrics.csv")
    logger.go_on_from(3)
    logger.log_metrics({"train/loss": 0.5}, 9)
    assert read_table(logger.path)["step"].tolist() == [0, 1, 2, 3, 9]


def test_nothing_is_written_before_something_is_logged(tmp_path: Path) -> None:
    logger = MetricsCSV(tmp_path / "member" / "metrics.csv")
    logger.log_hyperparams({"a": 1})
    assert not (tmp_path / "member").exists()
    with pytest.raises(ValueError, match="step"):
        logger.log_metrics({"a": 1.0})


class Line(L.LightningModule):
    """One weight; logs the step's loss and, every second epoch, a held-out one."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def training_step(self, batch: torch.Tensor) -> torch.Tensor:
        loss = (self.weight * batch).square().mean()
        self.log("train/loss", loss, on_step=True, on_epoch=False)
        return loss

    def validation_step(self, batch: torch.Tensor) -> None:
        self.log("val/loss", (self.weight * batch).mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(directory: Path, epochs: int, resume: bool = False) -> None:
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        logger=[MetricsCSV(directory / "metrics.csv")],
        callbacks=[ModelCheckpoint(directory, filename="last", every_n_epochs=2, enable_version_counter=False)],
        log_every_n_steps=1,
        check_val_every_n_epoch=2,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    loader = DataLoader(torch.linspace(0, 1, 6).unsqueeze(1), batch_size=2)
    trainer.fit(Line(), loader, loader, ckpt_path=str(directory / "last.ckpt") if resume else None)


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*exists and is not empty")
@pytest.mark.filterwarnings("ignore:`isinstance.treespec")
def test_a_lightning_training_resumed_from_an_older_checkpoint_logs_what_a_whole_one_does(tmp_path: Path) -> None:
    fit(tmp_path / "whole", 6)
    fit(tmp_path / "resumed", 3)
    assert read_table(tmp_path / "resumed" / "metrics.csv")["step"][-1] == 8
    fit(tmp_path / "resumed", 6, resume=True)
    files = [(tmp_path / name / "metrics.csv").read_text() for name in ("whole", "resumed")]
    assert files[0] == files[1]
    assert files[0].count("\n") == 19
