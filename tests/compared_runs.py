"""Run directories with made-up settings and numbers, for the tests of comparisons."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from memlight.rundir import RunDir
from memlight.tables import (
    CLASSMEM_TABLE,
    LAYERMEM_TABLE,
    PROBE_TABLE,
    UNITMEM_LAYERS,
    Table,
    write_json,
    write_table,
    write_text,
)

LAYERS = ("layer1", "layer2", "layer3", "layer4", "layer5")


def config(
    *, method: str = "SimCLR", encoder: str = "resnet9", repeat: int = 1, seed: int = 0, **model: Any
) -> dict[str, Any]:
    """What a run's ``config.yaml`` holds, as far as it is compared."""
    optim = {"name": "sgd", "lr": 0.06}
    data = {"dataset": "cifar10", "views": "simclr", "repeat": repeat, "batch_size": 256, "seed": seed}
    trainer = {"max_epochs": 60, "precision": "bf16-mixed", "accumulate_grad_batches": 1, "gradient_clip_val": None}
    return {
        "seed_everything": 0,
        "model": {
            "class_path": f"memlight.modules.{method}",
            "init_args": {"encoder": encoder, "init_seed": 0, "optim": optim, **model},
        },
        "data": {
            "class_path": "memlight.data.ImageDataModule",
            "init_args": {**data, "mean": [0.5, 0.5, 0.5], "role": "candidate", "root": "data/cifar10", "run": "x"},
        },
        "trainer": {**trainer, "limit_train_batches": None, "logger": None},
    }


def make_run(root: Path, settings: dict[str, Any] | None = None) -> RunDir:
    """A run that was trained and not analysed."""
    run = RunDir(root)
    write_json(run.splits, {"dataset": "cifar10"})
    write_text(run.config, yaml.safe_dump(config() if settings is None else settings))
    return run


def write_analysis(run: RunDir, command: str, tables: dict[str, tuple[Table, Sequence[str]]], flags: str = "") -> None:
    """Tables and summary of one analysis."""
    analysis = run.analysis(command)
    for name, (table, columns) in tables.items():
        write_table(analysis.table(name), table, columns)
    summary = {
        "command_line": f"analyze.py {command} --run {run.root} {flags}".rstrip(),
        "checkpoints": {"candidate": f"hash of {run.root}"},
        "finished": "2026-11-20T07:45:36+00:00",
        "device": "CPU",
        "git_commit": None,
    }
    write_json(analysis.summary, summary)


def add_layermem(
    run: RunDir, contrast: Sequence[float], *, layers: Sequence[str] = LAYERS, half: float = 0.001, flags: str = ""
) -> None:
    """``analysis/layermem`` with this contrast, plus and minus ``half``."""
    middle, count = np.array(contrast, dtype=np.float64), len(layers)
    table: Table = dict.fromkeys(LAYERMEM_TABLE, np.zeros(count))
    table |= {"layer": np.array(layers), "depth": np.arange(count), "n": np.full(count, 500)}
    table |= {"layermem": middle + 0.1, "contrast": middle}
    table |= {"contrast_low": middle - half, "contrast_high": middle + half}
    write_analysis(run, "layermem", {"table": (table, LAYERMEM_TABLE)}, flags)


def add_unitmem(
    run: RunDir, mean: Sequence[float], *, layers: Sequence[str] = LAYERS, contrast: float | None = 0.01
) -> None:
    """``analysis/unitmem`` with these means; without a pair where ``contrast`` is None."""
    count = len(layers)
    table: Table = dict.fromkeys(UNITMEM_LAYERS, np.zeros(count))
    table |= {"layer": np.array(layers), "mean": np.array(mean), "null_mean": np.array(mean) - 0.05}
    if contrast is None:
        table = {name: column for name, column in table.items() if name in UNITMEM_LAYERS[:14]}
    else:
        ends = {"unit_contrast": 0.0, "unit_contrast_low": -0.004, "unit_contrast_high": 0.004}
        table |= {name: np.full(count, contrast + shift) for name, shift in ends.items()}
        table |= {"own_max_share": np.full(count, 0.6)}
    write_analysis(run, "unitmem", {"layers": (table, UNITMEM_LAYERS)})


def add_probe(run: RunDir, knn: float, linear: float) -> None:
    """``analysis/probe`` of the candidate, below a row of the random encoder."""
    rows = [
        ("random", "output", "knn", 0.1, np.nan, 100, 50),
        ("candidate", "output", "linear", linear, 0.9, 100, 50),
        ("candidate", "output", "knn", knn, np.nan, 100, 50),
    ]
    table = {name: np.array(column) for name, column in zip(PROBE_TABLE, zip(*rows, strict=True), strict=True)}
    write_analysis(run, "probe", {"table": (table, PROBE_TABLE)})


def add_classmem(run: RunDir, scores: Sequence[tuple[str, float, bool]]) -> None:
    """``analysis/classmem`` with (layer, score, dead) of each unit."""
    layer, score, dead = (np.array(column) for column in zip(*scores, strict=True))
    table: Table = dict.fromkeys(CLASSMEM_TABLE, np.zeros(len(scores)))
    table |= {"layer": layer, "classmem": score, "mu_max": np.where(dead, 0.0, 1.0)}
    write_analysis(run, "classmem", {"table": (table, CLASSMEM_TABLE)})
