"""Run directories with made-up settings and numbers, for the tests of comparisons."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from memlight.analyses.classmem.columns import CLASSMEM_LAYERS
from memlight.analyses.dejavu.columns import DEJAVU_TABLE
from memlight.analyses.layermem.columns import LAYERMEM_SAMPLES, LAYERMEM_TABLE, MEMBERSHIP
from memlight.analyses.probe.columns import PROBE_TABLE
from memlight.analyses.unitmem.columns import UNITMEM_LAYERS
from memlight.storage.rundir import RunDir
from memlight.storage.schema import required
from memlight.storage.tables import Table, read_json, write_json, write_table, write_text
from tests.synthetic_run import splits_file

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
    write_json(run.splits, splits_file())
    write_text(run.config, yaml.safe_dump(config() if settings is None else settings))
    return run


def write_analysis(run: RunDir, command: str, tables: dict[str, tuple[Table, Sequence[str]]], flags: str = "") -> None:
    """Tables and summary of one analysis."""
    analysis = run.analysis(command)
    for name, (table, columns) in tables.items():
        write_table(analysis.table(name), table, columns)
    summary = {
        "command_line": f"analyze.py {command} --run {run.root} {flags}".rstrip(),
        "checkpoints": {"candidate": hashlib.sha256(str(run.root).encode()).hexdigest()},
        "headline": {},
        "finished": "2026-11-20T07:45:36+00:00",
        "device": "CPU",
        "git_commit": None,
        "seed": 0,
        "split_sha256": "ab" * 32,
        "versions": {},
        "seconds": 1.0,
        "images": 1,
        "images_per_second": 1.0,
        "figures": {},
    }
    write_json(analysis.summary, summary)


def add_layermem(
    run: RunDir,
    contrast: Sequence[float],
    *,
    layers: Sequence[str] = LAYERS,
    half: float = 0.001,
    flags: str = "",
    membership: bool = False,
) -> None:
    """``analysis/layermem`` with this contrast, plus and minus ``half``; the AUC is half more where it is measured."""
    middle, count = np.array(contrast, dtype=np.float64), len(layers)
    table: Table = dict.fromkeys(LAYERMEM_TABLE, np.zeros(count))
    table |= {"layer": np.array(layers), "depth": np.arange(count), "n": np.full(count, 500)}
    table |= {"layermem": middle + 0.1, "contrast": middle}
    table |= {"contrast_low": middle - half, "contrast_high": middle + half}
    table |= {"contrast_simultaneous_low": middle - 1.4 * half, "contrast_simultaneous_high": middle + 1.4 * half}
    tables = {"table": (table, LAYERMEM_TABLE)}
    if membership:
        auc: Table = dict.fromkeys(MEMBERSHIP, np.zeros(count)) | {"layer": table["layer"], "auc_pair": 0.5 + middle}
        auc |= {"auc_pair_simultaneous_low": 0.4 + middle, "auc_pair_simultaneous_high": 0.6 + middle}
        tables["membership"] = (auc, MEMBERSHIP)
    write_analysis(run, "layermem", tables, flags)


def add_samples(
    run: RunDir,
    scores: dict[str, NDArray[np.float64]],
    *,
    layers: Sequence[str] = LAYERS,
    tag: str | None = None,
) -> None:
    """``layermem/samples.csv``: split -> (layer, image); the ids of both splits descend."""
    parts = []
    for split, of_split in scores.items():
        layer, image = (axis.ravel() for axis in np.indices(of_split.shape))
        zeros = np.zeros(of_split.size)
        part = {"id": 1000 - image, "split": np.full(of_split.size, split), "label": zeros, "align_f": zeros}
        parts.append({**part, "layer": np.array(layers)[layer], "align_g": zeros, "score": of_split.ravel()})
    table = {name: np.concatenate([part[name] for part in parts]) for name in required(LAYERMEM_SAMPLES)}
    write_table(run.analysis("layermem", tag).table("samples"), table, LAYERMEM_SAMPLES)


def edit_json(path: Path, **changed: object) -> None:
    """Other values in a file such as ``summary.json``."""
    write_json(path, {**read_json(path, dict), **changed})


def add_unitmem(
    run: RunDir, mean: Sequence[float], *, layers: Sequence[str] = LAYERS, contrast: float | None = 0.01
) -> None:
    """``analysis/unitmem`` with these means; without a pair where ``contrast`` is None."""
    count = len(layers)
    table: Table = dict.fromkeys(UNITMEM_LAYERS, np.zeros(count))
    table |= {"layer": np.array(layers), "mean": np.array(mean), "null_mean": np.array(mean) - 0.05}
    if contrast is None:
        table = {name: column for name, column in table.items() if name in [*UNITMEM_LAYERS][:14]}
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


def add_classmem(run: RunDir, mean: Sequence[float], *, layers: Sequence[str] = LAYERS) -> None:
    """``analysis/classmem`` with these means."""
    table: Table = dict.fromkeys(CLASSMEM_LAYERS, np.zeros(len(layers)))
    table |= {"layer": np.array(layers), "mean": np.array(mean)}
    write_analysis(run, "classmem", {"layers": (table, CLASSMEM_LAYERS)})


CONTRAST = {(repeat, seed): [0.0, 0.001 * seed, 0.002, 0.004 * repeat, 0.001 * repeat + 0.0005 * seed]
            for repeat in (1, 4) for seed in (0, 1, 2)}  # fmt: skip
"""(repeat, seed) -> contrast by layer in the runs of `make_study`; the fourth of five is the highest."""


def make_study(root: Path) -> list[str]:
    """Two doses, three seeds each; UnitMem of all, probes of the lower dose only."""
    for (repeat, seed), contrast in CONTRAST.items():
        run = make_run(root / f"r{repeat}_s{seed}", config(repeat=repeat, seed=seed))
        add_layermem(run, contrast)
        add_unitmem(run, [0.3, 0.3, 0.4, 0.5, 0.6 + seed / 100])
        if repeat == 1:
            add_probe(run, knn=0.4 + seed / 10, linear=0.7)
    return [str(root / f"r{repeat}_s{seed}") for repeat, seed in CONTRAST]


def add_dejavu(run: RunDir, difference: Sequence[float], *, layers: Sequence[str], half: float) -> None:
    """``analysis/dejavu`` with these differences and intervals of this half-width."""
    table: Table = {name: np.zeros(len(layers)) for name in DEJAVU_TABLE}
    table |= {"layer": np.array(layers), "depth": np.arange(len(layers)), "n": np.full(len(layers), 10)}
    for end, shift in (("", 0.0), ("_low", -half), ("_high", half)):
        table[f"difference{end}"] = np.array(difference) + shift
    write_analysis(run, "dejavu", {"table": (table, DEJAVU_TABLE)})
