"""A pair that trains in seconds, 64 digits of 16 pixels and 3 epochs, and ways to look at what it leaves."""

import os
import random
import shutil
import signal
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import lightning.pytorch as L
import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from memlight.analyses.registry import ANALYSES
from memlight.analyze import main as analyze_main
from memlight.cli import main as train_main
from memlight.runs.log import AnalysisLog
from memlight.storage.rundir import AnalysisDir, RunDir
from memlight.storage.tables import Table, read_table
from tests.close import assert_tables_close
from tests.quick import digits_once, few_relabellings, short_probes, without_charts

ROOT = Path(__file__).resolve().parent.parent
ROLES = ("candidate", "independent")
EPOCHS = 3
VIEWS = 3
FLAGS = [
    "--model=memlight.modules.SimCLR",
    "--model.image_size=16",
    "--model.optim.warmup_epochs=1",
    "--model.optim.lr_batch_size=16",
    "--data=memlight.data.ImageDataModule",
    "--data.image_size=16",
    "--data.view_size=16",
    "--data.batch_size=16",
    "--data.num_shared=48",
    "--data.num_candidate=16",
    "--data.num_independent=16",
    "--data.num_external=15",
    f"--trainer.max_epochs={EPOCHS}",
    "--trainer.accelerator=cpu",
    "--trainer.log_every_n_steps=1",
    "--trainer.enable_model_summary=false",
    "--keep_every=2",
    "--logger=csv",
]
UNITMEM_TABLES = [
    *("excess", "extremes", "held_out", "highest", "layers", "null", "reliability", "table", "tests", "top"),
]
"""What a study of one encoder writes; with its partner it also writes ``curve``."""
THREE_LAYERS = ["--layers", "layer1", "res2", "layer8"]
KEPT = "epoch=1"
"""The checkpoint that is kept on the way: `EPOCHS` is not a multiple of --keep_every, so training goes on after it."""


def fit_flags(run: Path, *flags: str, role: str = "candidate") -> list[str]:
    """What follows ``train.py``; later flags win."""
    return ["fit", *FLAGS, f"--run={run}", f"--data.role={role}", *flags]


def fit(run: Path, *flags: str, role: str = "candidate") -> int:
    """``train.py fit`` in this process."""
    torch.set_num_threads(1)
    with digits_once(), few_relabellings(), short_probes():
        return train_main(fit_flags(run, *flags, role=role))


def analyze(run: Path, command: str, *flags: str, short: bool = True) -> int:
    """``analyze.py`` in this process, its tables only: drawing takes longest and other tests look at the figures.

    Args:
        run: the run directory.
        command: of analyze.py.
        flags: of the command.
        short: relabel less often and end probes early; not where the tables are compared with another process's.
    """
    torch.set_num_threads(1)
    views = [f"--views={VIEWS}"] if command in ("layermem", "unitmem") else []
    logger = ["--logger=csv", "--device=cpu"] if command != "report" else []
    charts = without_charts(*({command} & {analysis.name for analysis in ANALYSES}))
    with ExitStack() as quick:
        for saving in (digits_once(), charts, *((few_relabellings(), short_probes()) if short else ())):
            quick.enter_context(saving)
        return analyze_main([command, f"--run={run}", *logger, *views, *flags])


def environment() -> dict[str, str]:
    """For processes that run a script of the checkout."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def callback_flags(name: str, **options: object) -> list[str]:
    """Flags that add a callback to a training."""
    return [f"--trainer.callbacks+={name}", *(f"--trainer.callbacks.{key}={value}" for key, value in options.items())]


@dataclass(frozen=True)
class TinyPair:
    """A trained pair.

    Attributes:
        root: its run directory.
        random_states: of torch, NumPy and Python, at the end of each member's training.
    """

    root: Path
    random_states: dict[str, tuple[Any, ...]]

    def copy(self, target: Path) -> Path:
        """Another run directory with the same files, for a test of one's own."""
        return Path(shutil.copytree(self.root, target))


def train_pair(root: Path, *, observed: bool = False) -> TinyPair:
    """Train both members in this process. Callbacks make their figures, which are not drawn: that takes longest."""
    states = {}
    options = {"every_n_epochs": 2, "num_views": VIEWS, "layers": f"[{','.join(THREE_LAYERS[1:])}]"}
    names = ("UnitMemCallback", "LayerMemCallback") if observed else ()
    flags = [flag for name in names for flag in callback_flags(f"memlight.callbacks.{name}", **options)]
    with patch.object(AnalysisLog, "figure"):
        for role in ROLES:
            assert fit(root, *flags, role=role) == 0
            states[role] = random_states()
    return TinyPair(root, states)


def random_states() -> tuple[Any, ...]:
    """Where the generators of torch, NumPy and Python are."""
    return torch.get_rng_state().numpy().tobytes(), repr(np.random.get_state()), random.getstate()


def encoder_state(run: Path, role: str = "candidate") -> dict[str, Tensor]:
    """Tensors of a finished encoder."""
    return load_file(RunDir(run).member(role).encoder)


def checkpoint(run: Path, name: str = "last", role: str = "candidate") -> dict[str, Any]:
    """A checkpoint, read without running any code in it."""
    content: dict[str, Any] = torch.load(RunDir(run).member(role).checkpoints / f"{name}.ckpt", weights_only=True)
    return content


def same_tensors(a: Any, b: Any) -> bool:
    """Whether two nested containers hold bit-identical tensors and equal values."""
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same_tensors(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same_tensors(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


def read_tables(analysis: AnalysisDir) -> dict[str, Table]:
    """Every table of an analysis by name."""
    return {path.stem: read_table(path) for path in sorted(analysis.dir.glob("*.csv"))}


def table_bytes(analysis: AnalysisDir) -> dict[str, bytes]:
    """Every table of an analysis as it is on disk."""
    return {path.name: path.read_bytes() for path in sorted(analysis.dir.glob("*.csv"))}


def assert_same_tables(a: AnalysisDir, b: AnalysisDir, names: Sequence[str], answers: int = 0) -> None:
    """The tables of two analyses hold the same, as far as floats allow where batches or processes differ."""
    tables_a, tables_b = read_tables(a), read_tables(b)
    assert sorted(tables_a) == sorted(names)
    assert_tables_close(tables_a, tables_b, answers)


class KillAt(L.Callback):
    """Kills the process in the middle of an epoch, as a power cut would."""

    def __init__(self, epoch: int, batch: int) -> None:
        self.epoch = epoch
        self.batch = batch

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if (trainer.current_epoch, batch_idx) == (self.epoch, self.batch):
            os.kill(os.getpid(), signal.SIGKILL)


class Record(L.Callback):
    """Writes what one process saw: initial weights, every training batch, final weights."""

    def __init__(self, directory: str) -> None:
        self.directory = Path(directory)
        self.steps: list[dict[str, Any]] = []

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.initial = {name: tensor.clone() for name, tensor in pl_module.state_dict().items()}

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        views = [view.clone() for view in batch.views]
        self.steps.append({"epoch": trainer.current_epoch, "ids": batch.ids, "labels": batch.labels, "views": views})

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        content = {"initial": self.initial, "steps": self.steps, "final": pl_module.state_dict()}
        torch.save(content, self.directory / f"{trainer.global_rank}.pt")
