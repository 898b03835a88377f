"""Results go to disk first, then to W&B. The only file that imports wandb."""

import importlib.metadata
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
from matplotlib.figure import Figure

import memlight
from memlight.dist import on_first, rank
from memlight.errors import UserError
from memlight.runs.analysis import Analysis, rows_by_depth
from memlight.runs.sweep import outside_sweep
from memlight.runs.wandb_keys import analysis_keys
from memlight.storage.image_names import ImageNames, with_paths
from memlight.storage.rundir import RunDir
from memlight.storage.tables import Table, write_json, write_table
from memlight.storage.writing import replacing, sweep, writer_of

LoggerKind = Literal["wandb", "wandb-online", "csv"]
"""Where numbers go besides the disk: an offline W&B run, a W&B server, or nowhere."""

PROJECT = "memlight"
"""The W&B project of every run, unless the environment variable ``WANDB_PROJECT`` names another."""

WANDB_TABLE_ROWS = 10_000
"""W&B draws no more rows of a table than this; longer tables are uploaded as CSV files."""

PACKAGES = ("torch", "torchvision", "lightning", "timm", "lightly", "numpy")
"""The packages whose version can change a number."""


def _project() -> str:
    return os.environ.get("WANDB_PROJECT") or PROJECT


def _wandb_mode(kind: LoggerKind) -> Literal["online", "offline", "disabled"]:
    match os.environ.get("WANDB_MODE", "online" if kind == "wandb-online" else "offline"):
        case "online" | "offline" | "disabled" as mode:
            return mode
        case mode:
            raise UserError(f"WANDB_MODE={mode}: must be online, offline or disabled.")


class AnalysisLog:
    """The results of one analysis, written as a whole or not at all, then shown in W&B.

    Tables, figures and ``summary.json`` are collected in a hidden directory, which takes the place of
    ``analysis/<command>[-<tag>]`` when the block succeeds; an exception or a kill leaves the older results.
    Only rank 0 writes; on other ranks every method does nothing. Two processes cannot write one analysis at once: the
    block is entered on no rank where another command is writing it.

    Args:
        run: the run directory.
        analysis: what is measured.
        tag: tells several results of one command apart.
        logger: where numbers go besides the disk.
        seed: of views and samples.
        split_sha256: the hash of the split; None without one.
        checkpoints: file hashes of the encoders by role.
        device: what it ran on, in words.
        wait: wait for another command that is writing this analysis, rather than refuse.
        names: of the images, which tables that name ids give beside them; None where they are not known.

    Attributes:
        images: how many images the analysis has read, for the speed in the summary.
        final: where the results are once the block has succeeded.
        partial: where they are until then, for what is neither table nor figure; on rank 0 only.
    """

    def __init__(
        self,
        run: RunDir,
        analysis: Analysis,
        *,
        tag: str | None = None,
        logger: LoggerKind = "wandb",
        seed: int,
        split_sha256: str | None,
        checkpoints: Mapping[str, str],
        device: str,
        wait: bool = False,
        names: ImageNames | None = None,
    ) -> None:
        if logger != "csv":
            _wandb_mode(logger)  # refuses a WANDB_MODE that does not exist before the work, not after it
        self.images = 0
        self._run = run
        self._analysis = analysis
        self.final = run.analysis(analysis.name, tag)
        self.partial = self.final
        self._wait, self._names = wait, names
        self._lock, self._replacing = ExitStack(), ExitStack()
        self._afterwards: list[Callable[[], object]] = []
        self._logger = logger
        self._members = list(checkpoints)
        self._made_from = {
            "seed": seed,
            "split_sha256": split_sha256,
            "checkpoints": dict(checkpoints),
            "device": device,
            "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
            "git_commit": git_commit(),
        }
        self._headline: dict[str, Any] = {}
        self._tables: dict[str, Table] = {}
        self._captions: dict[str, str] = {}

    def table(self, name: str, table: Table) -> None:
        """Write ``<name>.csv``, which the analysis declares; see `memlight.storage.tables.write_table`."""
        if rank() == 0:
            schema = self._analysis.schema(name)
            named = table if self._names is None else with_paths(table, schema, self._names)
            write_table(self.partial.table(name), named, schema)
            self._tables[name] = named

    def figure(self, name: str, figure: Figure, caption: str) -> None:
        """Write ``figures/<name>.png``; the caption goes with it into the report."""
        if rank() == 0:
            self.partial.figures.mkdir(exist_ok=True)
            figure.savefig(self.partial.figures / f"{name}.png")
            self._captions[name] = caption

    def headline(self, numbers: Mapping[str, Any]) -> None:
        """Add the numbers that a reader looks for first."""
        self._headline.update(numbers)

    def afterwards(self, finish: Callable[[], object]) -> None:
        """Call this, on every rank, once the results are in their place; not after an exception."""
        self._afterwards.append(finish)

    def __enter__(self) -> Self:
        self._start = time.perf_counter()
        try:
            on_first(self._begin, UserError)
        except UserError:
            self._lock.close()
            raise
        return self

    def _begin(self) -> None:
        lock = self._lock.enter_context(writer_of(self.final.dir, wait=self._wait))
        sweep(self._run.root)
        partial = self._replacing.enter_context(replacing(self.final.dir, lock))
        self.partial = replace(self.final, dir=partial)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            if kind is not None:
                self._replacing.__exit__(kind, error, trace)
                return
            summary = self._summary()
            on_first(lambda: self._put_in_place(summary), UserError)
            for finish in self._afterwards:
                finish()
            if rank() == 0 and self._logger != "csv":
                self._upload(summary)

    def _put_in_place(self, summary: Mapping[str, Any]) -> None:
        with self._replacing:
            write_json(self.partial.summary, summary)

    def _summary(self) -> dict[str, Any]:
        seconds = time.perf_counter() - self._start
        return {
            "command": self.final.command,
            "tag": self.final.tag,
            "command_line": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
            "headline": self._headline,
            **self._made_from,
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": seconds,
            "images": self.images,
            "images_per_second": self.images / seconds,
            "figures": self._captions,
        }

    def _upload(self, summary: Mapping[str, Any]) -> None:
        import wandb

        mode = _wandb_mode(self._logger)
        quiet = wandb.Settings(silent=mode == "offline", console="off", x_disable_stats=True)
        keys = analysis_keys(self._run, self.final.dir.name, self.final.command, self._members)
        made = {key: value for key, value in summary.items() if key != "headline"}
        try:
            with (
                outside_sweep(),
                wandb.init(
                    project=_project(),
                    group=keys.group,
                    job_type=keys.job_type,
                    name=keys.name,
                    tags=keys.tags,
                    dir=self._run.root.absolute(),  # W&B's writer is a process that may stand in another directory
                    mode=mode,
                    reinit="create_new",
                    config={**keys.config, "analysis": made},
                    settings=quiet,
                ) as wandb_run,
            ):
                wandb_run.log(self._content(Path(wandb_run.dir), wandb_run.save))
                curves = f"{self.final.command}_by_depth"
                wandb_run.define_metric(f"{curves}/*", step_metric=f"{curves}/depth")
                for row in rows_by_depth(self._tables.get(self._analysis.by_layer, {})):
                    wandb_run.log({f"{curves}/{name}": value for name, value in row.items()})
                wandb_run.summary.update({**self._headline, **self._analysis.headlines(self._tables)})
        except wandb.Error as error:
            raise UserError(
                "logger",
                self._logger,
                f"{error}; the results are on disk in {self.final.dir}",
                ["log in with `wandb login`", "use `logger=csv`"],
            ) from error

    def _content(self, directory: Path, save: Callable[..., object]) -> dict[str, Any]:
        """Figures and tables as W&B shows them; a table that is too long is uploaded as a file instead."""
        import wandb

        command = self.final.command
        content: dict[str, Any] = {
            f"{command}/{name}": wandb.Image(str(self.final.figures / f"{name}.png"), caption=caption)
            for name, caption in self._captions.items()
        }
        for name, table in self._tables.items():
            rows = list(zip(*(np.asarray(column).tolist() for column in table.values()), strict=True))
            if len(rows) > WANDB_TABLE_ROWS:
                copy = shutil.copy(self.final.table(name), directory / f"{self.final.dir.name}-{name}.csv")
                save(str(copy), base_path=directory, policy="now")
            else:
                content[f"{command}/{name}"] = wandb.Table(columns=list(table), data=rows)
        return content


def git_commit() -> str | None:
    """The commit of this package's source, with ``-dirty`` after local changes; None outside a checkout."""
    source = Path(memlight.__file__).resolve().parent.parent
    if not (source / ".git").exists():
        return None
    command = ["git", "-C", str(source), "describe", "--always", "--dirty", "--abbrev=40", "--match="]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.stdout.strip() or None
