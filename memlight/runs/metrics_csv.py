"""``metrics.csv``: what a training logged, one row per step, right across interruptions."""

import csv
import os
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from memlight.storage.tables import atomic_write, read_table


class MetricsCSV(Logger):
    """A Lightning logger that writes ``metrics.csv``: one row per step, one column per metric.

    What is logged twice at a step lands in one row; cells of what was not logged are empty. When a training is
    resumed, rows of steps after the checkpoint (they are trained again) are dropped at the first new row. A row
    is on disk before `log_metrics` returns; a new column rewrites the file atomically.

    Args:
        path: the CSV file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self._header: list[str] = []
        self._row: dict[str, str] = {}
        self._row_start = 0

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
        if not self._header or int(self._row["step"]) > step:
            self._resume(step)
        new_columns = [key for key in cells if key not in self._header]
        if new_columns:
            self._rewrite([*self._header, *new_columns], self._read())
        same_step = self._row.get("step") == cells["step"]
        self._row = {**self._row, **cells} if same_step else cells
        with self.path.open("r+", newline="", encoding="utf-8") as file:
            self._row_start = self._row_start if same_step else file.seek(0, os.SEEK_END)
            file.seek(self._row_start)
            file.truncate()
            csv.DictWriter(file, self._header, lineterminator="\n").writerow(self._row)

    def _read(self) -> list[dict[str, str]]:
        """The complete rows on disk; the last may have been cut short by a kill."""
        if not self.path.is_file():
            return []
        text = self.path.read_text(encoding="utf-8")
        return list(csv.DictReader(text[: text.rfind("\n") + 1].splitlines()))

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


def last_values(path: Path) -> dict[str, float]:
    """The last value of every column of a ``metrics.csv``; empty where there is none yet."""
    table = read_table(path) if path.is_file() else {}
    logged = {name: column[np.isfinite(column)] for name, column in table.items()}
    return {name: float(column[-1]) for name, column in logged.items() if len(column)}
