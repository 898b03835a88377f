"""Where a training's numbers go: metrics.csv, and W&B."""

import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from memlight.runs.log import LoggerKind, _project, _wandb_mode
from memlight.runs.metrics_csv import MetricsCSV, last_values
from memlight.runs.wandb_keys import pair_keys, training_keys
from memlight.storage.rundir import RunDir
from memlight.storage.tables import write_text


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
                save_dir=member.dir,
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
    point = wandb.init(dir=run.root, name=run.name, group=run.name, job_type="pair", mode=mode, settings=quiet)
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
