"""How many processes were started, and which of them this is: what torchrun and SLURM's srun say in the environment."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from memlight.errors import UserError

TORCHRUN = {"RANK", "WORLD_SIZE"}
"""What torchrun sets and Lightning, which starts processes too, does not."""

NAMES_WITHOUT_SLURM = ("bash", "interactive")
"""In jobs of these names Lightning takes no notice of SLURM."""


@dataclass(frozen=True)
class Launch:
    """One of the processes that torchrun or srun started.

    Attributes:
        processes: how many there are on all machines.
        nodes: on how many machines.
        rank: which of them this is.
        local_rank: which of those on its machine.
        init_method: where they meet, for `torch.distributed.init_process_group`.
    """

    processes: int
    nodes: int
    rank: int
    local_rank: int
    init_method: str


def launch(environment: Mapping[str, str] = os.environ) -> Launch | None:
    """What started this process; None if nothing did that starts several.

    torchrun within srun is torchrun. The commands of a batch script are not tasks of srun unless it says so.

    Args:
        environment: as torchrun or srun made it.
    """

    def number(name: str, default: str = "0") -> int:
        return int(environment.get(name, default))

    if environment.keys() >= TORCHRUN:
        return Launch(
            number("WORLD_SIZE"), number("GROUP_WORLD_SIZE", "1"), number("RANK"), number("LOCAL_RANK"), "env://"
        )
    if "SLURM_STEP_NUM_TASKS" in environment and "SLURM_PROCID" in environment:
        port = 20_000 + (number("SLURM_JOB_ID") + number("SLURM_STEP_ID")) % 10_000
        host = environment.get("MASTER_ADDR") or first_host(environment.get("SLURM_STEP_NODELIST", "127.0.0.1"))
        return Launch(
            number("SLURM_STEP_NUM_TASKS"),
            number("SLURM_STEP_NUM_NODES", "1"),
            number("SLURM_PROCID"),
            number("SLURM_LOCALID"),
            f"tcp://{host}:{environment.get('MASTER_PORT', port)}",
        )
    return None


def first_host(nodes: str) -> str:
    """The first of SLURM's list of machines: ``gpu[017-019,23],login1`` begins with gpu017."""
    before, bracket, rest = nodes.partition("[")
    if not bracket or "," in before:
        return before.partition(",")[0]
    numbers, _, after = rest.partition("]")
    return before + numbers.partition(",")[0].partition("-")[0] + after.partition(",")[0]


def settle_devices(trainer: Any, environment: Mapping[str, str] = os.environ) -> int | None:
    """Let a training have the processes that were started for it, where its options do not say how many.

    Args:
        trainer: Lightning's options; ``devices`` and ``num_nodes`` are changed from ``auto`` and 1.
        environment: as torchrun or srun made it.

    Returns:
        How many processes there are; None if Lightning starts them itself.

    Raises:
        UserError: Lightning would wait for tasks that nobody started, or let each task train by itself.
    """
    here = launch(environment)
    if not environment.keys() >= TORCHRUN:
        tasks, name = int(environment.get("SLURM_NTASKS", "0")), environment.get("SLURM_JOB_NAME")
        if tasks > 1 and here is None and name not in NAMES_WITHOUT_SLURM:
            raise UserError(
                f"SLURM_NTASKS={tasks}: only srun starts the tasks of a job; write srun before python, or leave "
                "--ntasks and --ntasks-per-node out of the job."
            )
        if tasks > 1 and here is not None and name in NAMES_WITHOUT_SLURM:
            raise UserError(
                f"SLURM_JOB_NAME={name}: in a job of this name every task would train by itself; export "
                "SLURM_JOB_NAME=memlight before srun."
            )
        if tasks == 0 or name in NAMES_WITHOUT_SLURM:
            return None
    processes, nodes = (here.processes, here.nodes) if here is not None else (1, 1)
    if trainer.devices == "auto":
        trainer.devices = processes // nodes
    if trainer.num_nodes == 1:
        trainer.num_nodes = nodes
    return processes
