"""What is read from the environment that torchrun, srun and batch scripts make, and what is refused in it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from memlight.cli import main
from memlight.runs.device import process_group
from memlight.runs.launch import Launch, first_host, launch, settle_devices
from memlight.training.preflight import require_devices
from tests.said import refused
from tests.tiny_pair import fit_flags

BATCH_SCRIPT = {"SLURM_JOB_ID": "1234567", "SLURM_JOB_NAME": "memlight", "SLURM_NTASKS": "8", "SLURM_PROCID": "0"}
TASK = BATCH_SCRIPT | {
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_ID": "2",
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_STEP_NODELIST": "gpu[017-018]",
}
WORKER = {"WORLD_SIZE": "8", "GROUP_WORLD_SIZE": "2", "RANK": "5", "LOCAL_RANK": "1", "MASTER_ADDR": "gpu017"}


def trainer(devices: int | str | list[int] = "auto", num_nodes: int = 1, accelerator: str = "cpu") -> Any:
    """Lightning's options."""
    return SimpleNamespace(devices=devices, num_nodes=num_nodes, accelerator=accelerator)


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with four of them."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)


def set_environment(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    "by_hand",
    [{}, {"LOCAL_RANK": "1", "WORLD_SIZE": "4", "NODE_RANK": "0"}, BATCH_SCRIPT],
    ids=["a shell", "Lightning", "a batch script"],
)
def test_what_starts_one_process_starts_one(by_hand: dict[str, str]) -> None:
    assert launch(by_hand) is None


def test_a_worker_of_torchrun_also_within_srun() -> None:
    expected = Launch(processes=8, nodes=2, rank=5, local_rank=1, init_method="env://")
    assert launch(WORKER) == expected
    assert launch(TASK | {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1"} | WORKER) == expected


def test_a_task_of_srun_meets_the_others_at_the_first_machine() -> None:
    expected = Launch(processes=8, nodes=2, rank=5, local_rank=1, init_method="tcp://gpu017:24569")
    assert launch(TASK) == expected  # 20000 + (1234567 + 2) % 10000
    there = launch(TASK | {"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "4000"})
    assert there is not None
    assert there.init_method == "tcp://10.0.0.1:4000"


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("localhost", "localhost"),
        ("a,b", "a"),
        ("gpu[017-019,23],login1", "gpu017"),
        ("gpu[3]", "gpu3"),
        ("gpu[3,5-9]", "gpu3"),
        ("a1,gpu[3-5]", "a1"),
        ("rack[1-2]-ib,b", "rack1-ib"),
    ],
)
def test_first_host(nodes: str, first: str) -> None:
    assert first_host(nodes) == first


@pytest.mark.parametrize("environment", [WORKER, TASK], ids=["torchrun", "srun"])
def test_a_training_takes_the_processes_that_were_started(environment: dict[str, str]) -> None:
    asked = trainer()
    assert settle_devices(asked, environment) == 8
    assert (asked.devices, asked.num_nodes) == (4, 2)
    said = trainer(devices=2, num_nodes=4)
    assert settle_devices(said, environment) == 8
    assert (said.devices, said.num_nodes) == (2, 4)


@pytest.mark.parametrize(
    "environment",
    [{}, BATCH_SCRIPT | {"SLURM_JOB_NAME": "bash"}, TASK | {"SLURM_JOB_NAME": "bash", "SLURM_NTASKS": "1"}],
    ids=["a shell", "salloc", "srun --pty bash"],
)
def test_a_training_starts_its_own_processes_in_a_shell(environment: dict[str, str]) -> None:
    asked = trainer(devices=4)
    assert settle_devices(asked, environment) is None
    assert asked.devices == 4


def test_a_batch_script_with_one_task_trains_in_one_process() -> None:
    assert settle_devices(trainer(), BATCH_SCRIPT | {"SLURM_NTASKS": "1"}) == 1


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        (BATCH_SCRIPT, "SLURM_NTASKS=8: only srun starts the tasks of a job; write srun before python"),
        (TASK | {"SLURM_JOB_NAME": "interactive"}, "SLURM_JOB_NAME=interactive: .* every task would train by itself"),
    ],
    ids=["no srun", "a job that Lightning does not look at"],
)
def test_what_lightning_would_wait_for_or_do_eight_times_is_refused(environment: dict[str, str], words: str) -> None:
    with refused(words):
        settle_devices(trainer(), environment)


@pytest.mark.parametrize(
    ("devices", "num_nodes", "accelerator", "processes"),
    [
        ("auto", 1, "cpu", 1),
        ("auto", 1, "auto", 4),
        ("auto", 2, "gpu", 8),
        (-1, 1, "gpu", 4),
        (3, 2, "cpu", 6),
        ("2", 1, "auto", 2),
        ([0, 2], 2, "gpu", 4),
        ("0,2", 1, "gpu", 2),
        ("3,", 1, "gpu", 1),
    ],
)
@pytest.mark.usefixtures("gpus")
def test_processes_are_devices_times_nodes(devices: Any, num_nodes: int, accelerator: str, processes: int) -> None:
    assert require_devices(trainer(devices, num_nodes, accelerator)) == processes


@pytest.mark.usefixtures("gpus")
def test_another_number_than_was_started_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(monkeypatch, WORKER)
    assert require_devices(trainer(accelerator="gpu")) == 8
    with refused(r"--trainer\.devices 2: 4 process\(es\) on 2 node\(s\), .* SLURM started 8"):
        require_devices(trainer(2, accelerator="gpu"))
    with refused(r"--trainer\.devices 5: 4 GPU\(s\) are visible here"):
        require_devices(trainer(5, accelerator="gpu"))


def test_torchrun_does_not_start_pairs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    set_environment(monkeypatch, WORKER)
    flags = [flag for flag in fit_flags(tmp_path / "run")[1:] if not flag.startswith("--data.role")]
    assert main(["pair", *flags]) == 2
    assert capsys.readouterr().err.startswith("error: pair: torchrun or srun started it 8 times; start `train.py fit")
    assert not (tmp_path / "run").exists()


def test_an_analysis_without_srun_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(monkeypatch, BATCH_SCRIPT)
    with process_group("cpu") as device:
        assert device == torch.device("cpu")
        assert not torch.distributed.is_initialized()


@pytest.mark.usefixtures("gpus")
def test_every_process_of_a_machine_has_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    joined: list[Any] = []
    monkeypatch.setattr(torch.cuda, "set_device", joined.append)
    monkeypatch.setattr(
        torch.distributed, "init_process_group", lambda *args, **options: joined.extend([args, options])
    )
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: joined.append("left"))
    set_environment(monkeypatch, TASK)
    with process_group("cuda") as device:
        assert device == torch.device("cuda", 1)
    meeting = ("nccl", "tcp://gpu017:24569"), {"world_size": 8, "rank": 5}
    assert joined == [torch.device("cuda", 1), *meeting, "left"]
