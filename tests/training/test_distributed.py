"""The same commands in two processes, however they are started: by Lightning, torchrun, SLURM, on one machine or two.

srun and second machines are imitated by what they set in the environment; all processes are on this machine's CPU.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import pytest
import torch

from memlight.storage.rundir import RunDir
from memlight.storage.tables import read_table
from tests import tiny_pair
from tests.tiny_pair import (
    EPOCHS,
    KEPT,
    ROLES,
    ROOT,
    THREE_LAYERS,
    UNITMEM_TABLES,
    VIEWS,
    assert_same_tables,
    callback_flags,
    checkpoint,
    encoder_state,
    environment,
    fit_flags,
    random_states,
    same_tensors,
)

pytestmark = pytest.mark.ddp

analyze = partial(tiny_pair.analyze, short=False)
TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]
EVALUATE = callback_flags("OnlineEvaluation", every_n_epochs=1)


class Generators(L.Callback):
    """Writes where every process's random generators are when training ends."""

    def __init__(self, directory: str) -> None:
        self.directory = Path(directory)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / f"{trainer.global_rank}.txt").write_text(repr(random_states()))


def train(run: Path, *flags: str) -> list[str]:
    """A training that notes its random states, after ``python``."""
    noted = callback_flags(
        "tests.training.test_distributed.Generators", directory=run.parent / f"{run.name}-generators"
    )
    return [str(ROOT / "train.py"), *fit_flags(run, *flags), *noted]


def started(commands: Sequence[Sequence[str]], environments: Sequence[dict[str, str]]) -> list[str]:
    """Run commands at the same time; what each wrote to standard output, once all have succeeded."""
    processes = [
        subprocess.Popen(
            command, env=environment() | own, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
        )
        for command, own in zip(commands, environments, strict=True)
    ]
    outputs = [process.communicate(timeout=300) for process in processes]
    for process, (_, error) in zip(processes, outputs, strict=True):
        assert process.returncode == 0, error
    return [output for output, _ in outputs]


def tasks(command: Sequence[str], count: int = 2) -> list[str]:
    """Run a command as srun does on one machine: standard output of every task."""
    everywhere = {
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_JOB_NAME": "memlight",
        "SLURM_NTASKS": str(count),
        "SLURM_NTASKS_PER_NODE": str(count),
        "SLURM_NNODES": "1",
        "SLURM_NODELIST": "localhost",
        "SLURM_STEP_ID": "0",
        "SLURM_STEP_NUM_TASKS": str(count),
        "SLURM_STEP_NUM_NODES": "1",
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_NODEID": "0",
    }
    own = [everywhere | {"SLURM_PROCID": str(task), "SLURM_LOCALID": str(task)} for task in range(count)]
    return started([[sys.executable, *command]] * count, own)


def assert_same_training(run: Path, other: Path) -> None:
    """Weights, buffers, optimizer, random states and logged losses are bit-identical."""
    assert same_tensors(encoder_state(run), encoder_state(other))
    for name in (KEPT, "last"):
        ours, theirs = checkpoint(run, name), checkpoint(other, name)
        for part in ("state_dict", "optimizer_states", "lr_schedulers", "epoch", "global_step"):
            assert same_tensors(ours[part], theirs[part]), part
    for rank in range(2):
        of_rank = [path.parent / f"{path.name}-generators" / f"{rank}.txt" for path in (run, other)]
        assert of_rank[0].read_text() == of_rank[1].read_text()
    logged, also = (read_table(RunDir(root).member("candidate").metrics) for root in (run, other))
    for column in logged.keys() & also.keys():
        assert logged[column].tobytes() == also[column].tobytes(), column
    assert {"train/loss", "val/loss"} <= logged.keys() & also.keys()


@pytest.fixture(scope="module")
def by_lightning(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A member trained with ``--trainer.devices 2``, without any observer."""
    run = tmp_path_factory.mktemp("lightning") / "run"
    started([[sys.executable, *train(run, "--trainer.devices=2")]], [{}])
    return run


@pytest.mark.slow
def test_torchrun_trains_as_devices_does_and_evaluation_changes_nothing(by_lightning: Path, tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    command = [*TORCHRUN, "--nproc-per-node=2", "--", *train(run.root, "--logger=wandb", *EVALUATE)]
    (output,) = started([command], [{}])
    assert_same_training(run.root, by_lightning)

    member = run.member("candidate")
    assert [output.count(f"epoch {epoch}/{EPOCHS} ") for epoch in range(1, EPOCHS + 1)] == [1] * EPOCHS
    assert len(list(member.dir.glob("wandb/offline-run-*"))) == 1
    assert len(list(run.root.rglob("metrics.csv"))) == len(list(run.root.rglob("*.safetensors"))) == 1
    assert read_table(member.metrics)["step"].tolist() == list(range(EPOCHS * 4))

    accuracy = read_table(member.metrics)["knn/top1"]
    assert np.isfinite(accuracy).sum() == EPOCHS
    assert analyze(run.root, "probe", "--members=candidate", f"--checkpoint={KEPT}", "--tag=alone") == 0
    alone = read_table(run.analysis("probe", "alone").table())
    assert accuracy[7] == pytest.approx(float(alone["top1"][1]), rel=1e-6)
    assert analyze(run.root, "probe", "--members=candidate", "--tag=finished") == 0
    assert_same_tables(run.analysis("probe", "candidate"), run.analysis("probe", "finished"), ["table"])


@pytest.mark.slow
def test_tasks_of_srun_share_an_analysis(run: Path) -> None:
    flags = ["layermem", f"--run={run}", f"--views={VIEWS}", "--logger=csv", "--tag=tasks", *THREE_LAYERS]
    outputs = tasks([str(ROOT / "analyze.py"), *flags])
    assert [output.count("layermem-tasks: tables, figures, summary.json") for output in outputs] == [1, 0]
    assert analyze(run, "layermem", "--tag=alone", *THREE_LAYERS) == 0
    shared, alone = (RunDir(run).analysis("layermem", tag) for tag in ("tasks", "alone"))
    assert_same_tables(shared, alone, ["agreement", "intervals", "samples", "table", "tests"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "tables"),
    [
        ("layermem", ["agreement", "intervals", "samples", "table", "tests"]),
        ("unitmem", [*UNITMEM_TABLES, "curve"]),
        ("probe", ["table"]),
    ],
)
def test_torchrun_shares_every_analysis(command: str, tables: list[str], run: Path) -> None:
    views = [f"--views={VIEWS}"] if command != "probe" else []
    flags = [command, f"--run={run}", "--logger=wandb", "--tag=shared", *views]
    (output,) = started([[*TORCHRUN, "--nproc-per-node=2", "--", str(ROOT / "analyze.py"), *flags]], [{}])
    assert output.count("tables, figures, summary.json") == 1
    assert len(list(run.glob("wandb/offline-run-*"))) == 1
    assert analyze(run, command, "--tag=alone") == 0
    shared, alone = (RunDir(run).analysis(command, tag) for tag in ("shared", "alone"))
    assert_same_tables(shared, alone, tables)


@pytest.mark.slow
def test_tasks_of_srun_train_as_devices_does(by_lightning: Path, tmp_path: Path) -> None:
    outputs = tasks(train(tmp_path / "run"))
    assert_same_training(tmp_path / "run", by_lightning)
    assert [output.count("epoch 1/") for output in outputs] == [1, 0]


@pytest.mark.slow
def test_two_machines_train_as_one_does(by_lightning: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    here = ["--nnodes=2", "--nproc-per-node=1", "--master-addr=localhost", f"--master-port={port}"]
    machines = [[*TORCHRUN, *here, f"--node-rank={node}", "--", *train(tmp_path / "run")] for node in range(2)]
    outputs = started(machines, [{}, {}])
    assert_same_training(tmp_path / "run", by_lightning)
    assert [output.count("epoch 1/") for output in outputs] == [1, 0]


@pytest.mark.slow
def test_two_processes_that_were_killed_go_on_and_equal_those_that_were_not(by_lightning: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    torchrun = [*TORCHRUN, "--nproc-per-node=2", "--"]
    kill = callback_flags("tests.tiny_pair.KillAt", epoch=2, batch=2)
    killed = subprocess.run([*torchrun, *train(run), *kill], env=environment(), cwd=ROOT, capture_output=True)
    assert killed.returncode != 0
    assert not RunDir(run).member("candidate").encoder.exists()
    assert checkpoint(run)["epoch"] == 1
    started([[*torchrun, *train(run, "--resume=true")]], [{}])
    assert_same_training(run, by_lightning)
    (output,) = started([[*torchrun, *train(run, "--resume=true")]], [{}])
    assert output.count("is finished; nothing to train") == 1


@pytest.mark.slow
def test_a_pair_trains_each_member_in_two_processes(by_lightning: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "train.py"), "pair", *fit_flags(tmp_path / "run", "--trainer.devices=2")[1:]]
    started([[word for word in command if not word.startswith("--data.role")]], [{}])
    assert same_tensors(encoder_state(tmp_path / "run"), encoder_state(by_lightning))
    for role in ROLES:
        ours: dict[str, Any] = checkpoint(tmp_path / "run", role=role)
        assert ours["epoch"] == EPOCHS - 1
        assert all(torch.isfinite(tensor).all() for tensor in ours["state_dict"].values())
