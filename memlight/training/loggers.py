"""Where a training's numbers go: metrics.csv, and W&B."""

import csv
import io
import os
import uuid
from argparse import Namespace
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
from lightning.pytorch.loggers import Logger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from memlight.runs.log import LoggerKind, _project, _wandb_mode
from memlight.runs.wandb_keys import pair_keys, training_keys
from memlight.storage.rundir import RunDir
from memlight.storage.tables import read_table, write_text
from memlight.storage.writing import atomic_write, sync


def make_loggers(kind: LoggerKind, run: RunDir, role: str, config: Mapping[str, Any]) -> list[Logger]:
    """The loggers of one member's training: ``metrics.csv`` always, and W&B unless ``kind`` is csv.

    A training that is resumed goes on in the same W&B run: its id is kept in the member's directory. W&B is
    offline unless ``kind`` is wandb-online or the environment variable ``WANDB_MODE`` says otherwise.

    Args:
        kind: see `LoggerKind`.
        run: the run directory.
        role: which member is trained.
        config: `memlight.runs.settings.comparable` of the configuration, shown in W&B.
    """
    member = run.member(role)
    loggers: list[Logger] = [MetricsCSV(member.metrics)]
    if kind != "csv":
        keys = training_keys(run, role, config)
        loggers.append(
            WandbLogger(
                name=keys.name,
                save_dir=member.dir.absolute(),
                version=_wandb_id(member.wandb_id),
                project=_project(),
                log_model=False,
                group=keys.group,
                job_type=keys.job_type,
                tags=keys.tags,
                mode=_wandb_mode(kind),
                config=keys.config,
            )
        )
    return loggers


@rank_zero_only
def _wandb_id(path: Path) -> str:
    if not path.is_file():
        write_text(path, uuid.uuid4().hex[:12])
    return path.read_text(encoding="utf-8")


def sweep_run(kind: LoggerKind, run: RunDir, train: Callable[[], int]) -> int:
    """Train a pair within the W&B run that a sweep's agent waits for; the members' trainings have runs of their own.

    When both are trained it has their settings, and the last value of every column of each ``metrics.csv`` as
    ``<role>/<metric>``.

    Args:
        kind: wandb or wandb-online.
        run: the run directory, which is made.
        train: trains both members; gives an exit status.

    Returns:
        The exit status.
    """
    import wandb

    run.root.mkdir(parents=True, exist_ok=True)
    mode = _wandb_mode(kind)
    quiet = wandb.Settings(silent=mode == "offline", console="off", x_disable_stats=True)
    point = wandb.init(
        dir=run.root.absolute(), name=run.name, group=run.name, job_type="pair", mode=mode, settings=quiet
    )
    status = 1
    try:
        status = train()
        if status == 0:
            keys = pair_keys(run)
            point.tags = keys.tags
            point.config.update(keys.config, allow_val_change=True)  # type: ignore[no-untyped-call]
            for member in run.members():
                last = last_values(member.metrics).items()
                point.summary.update({f"{member.role}/{name}": value for name, value in last})
        return status
    finally:
        point.finish(exit_code=status)


class MetricsCSV(Logger):
    """A Lightning logger that writes ``metrics.csv``: one row per step, one column per metric.

    What is logged twice at a step lands in one row; cells of what was not logged are empty. When a training is
    resumed, rows of steps after the checkpoint (they are trained again) are dropped at the first new row. A row
    is on disk before `log_metrics` returns; a new column rewrites the file atomically. What `seal` has seen survives a
    kill at any moment: a sealed row that is logged to again is rewritten with the whole file.

    Args:
        path: the CSV file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self._header: list[str] = []
        self._row: dict[str, str] = {}
        self._row_start = 0
        self._sealed = False
        self._first: int | None = None

    @property
    def name(self) -> str:
        """The file's name without its suffix."""
        return self.path.stem

    @property
    def version(self) -> str:
        """Always empty: a member is trained once."""
        return ""

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Nothing: the configuration is in the run directory."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write ``metrics`` into the row of ``step``.

        Args:
            metrics: scalars by name.
            step: the training step.

        Raises:
            ValueError: no step is given.
        """
        if step is None:
            raise ValueError("metrics.csv needs the step of every metric")
        cells = {key: repr(float(value)) for key, value in metrics.items()}
        cells["step"] = str(step)
        if "epoch" in metrics:
            cells["epoch"] = str(int(metrics["epoch"]))
        if not self._header:
            self._resume(step if self._first is None else min(self._first, step))
        elif int(self._row["step"]) > step:
            self._resume(step)
        same_step = self._row.get("step") == cells["step"]
        row = {**self._row, **cells} if same_step else cells
        new_columns = [key for key in cells if key not in self._header]
        if same_step and row == self._row:
            return
        if new_columns or (same_step and self._sealed):
            before = self._read()
            self._rewrite([*self._header, *new_columns], [*before[:-1], row] if same_step else [*before, row])
            return
        self._row = row
        with self.path.open("r+", newline="", encoding="utf-8") as file:
            self._row_start = self._row_start if same_step else file.seek(0, os.SEEK_END)
            file.seek(self._row_start)
            file.truncate()
            csv.DictWriter(file, self._header, lineterminator="\n").writerow(self._row)
        self._sealed = False

    @rank_zero_only
    def go_on_from(self, step: int) -> None:
        """Drop the rows of later steps at the first new row: they were logged after the checkpoint that is resumed."""
        self._first = step

    @rank_zero_only
    def seal(self) -> None:
        """Have every row so far on the disk, and keep it there whatever happens later."""
        if self.path.is_file():
            sync(self.path)
            self._sealed = True

    def _read(self) -> list[dict[str, str]]:
        """The complete rows on disk; the last may have been cut short by a kill."""
        if not self.path.is_file():
            return []
        text = self.path.read_text(encoding="utf-8")
        return list(csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1], newline="")))

    def _resume(self, step: int) -> None:
        rows = [row for row in self._read() if int(row["step"]) <= step]
        self._rewrite(list(rows[0]) if rows else ["step"], rows)

    def _rewrite(self, header: list[str], rows: list[dict[str, str]]) -> None:
        with (
            atomic_write(self.path) as temporary,
            temporary.open("w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.DictWriter(file, header, lineterminator="\n")
            writer.writeheader()
            for row in rows:
                self._row_start = file.tell()
                writer.writerow(row)
        self._header = header
        self._row = rows[-1] if rows else {"step": "-1"}
        self._sealed = True


class RowsBeforeCheckpoints(L.Callback):
    """A checkpoint that says that an epoch is done finds the epoch's row of ``metrics.csv`` on the disk.

    Lightning logs what an epoch gave after it has saved its checkpoints, so a kill between the two would lose the row:
    a resumed training begins with the next epoch. Here the row is written and synced before; Lightning's own call then
    finds nothing new in it. A kill between row and checkpoint trains the epoch again, and writes the same row.
    """

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Forget the rows of steps that are trained again."""
        for table in _tables(trainer):
            table.go_on_from(trainer.global_step)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Log what Lightning will log at the end of this epoch, where it is one, and have it on the disk.

        There is no public way to what Lightning is about to log: these are its places in Lightning 2.6.
        """
        loop = trainer.fit_loop
        epochs = vars(loop.epoch_progress.current)
        if epochs["processed"] > epochs["completed"]:
            metrics = trainer._logger_connector.metrics["log"]  # processes average here, so all of them ask
            row = {name: float(value) for name, value in metrics.items()}
            for table in _tables(trainer) if row else ():
                table.log_metrics({**row, "epoch": trainer.current_epoch}, loop.epoch_loop._batches_that_stepped - 1)
        for table in _tables(trainer):
            table.seal()


def _tables(trainer: L.Trainer) -> list[MetricsCSV]:
    return [logger for logger in trainer.loggers if isinstance(logger, MetricsCSV)]


def last_values(path: Path) -> dict[str, float]:
    """The last value of every column of a ``metrics.csv``; empty where there is none yet."""
    table = read_table(path) if path.is_file() else {}
    numbers = {name: column for name, column in table.items() if column.dtype.kind in "fiub"}
    logged = {name: column[np.isfinite(column)] for name, column in numbers.items()}
    return {name: float(column[-1]) for name, column in logged.items() if len(column)}
