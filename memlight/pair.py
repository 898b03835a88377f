"""`train.py pair`: the two members of a pair as two `fit` processes.

Two processes rather than two fits in one: a crash of one leaves the other, each is resumed by itself, and
each is the same command that torchrun or SLURM would run.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from memlight.errors import UserError

MEMBERS = ("candidate", "independent")


def train_pair(argv: Sequence[str]) -> int:
    """Train both members, one after the other or side by side; every other flag goes to `fit`.

    Returns:
        0, or the exit status of the first member that failed.

    Raises:
        UserError: for flags that make no sense for a pair, before anything is started.
    """
    parser = argparse.ArgumentParser(
        prog="train.py pair",
        description="Train a candidate and an independent encoder into one run directory. A finished member is "
        "kept, an interrupted one resumes. All other options are those of `train.py fit` and are passed on.",
        allow_abbrev=False,
    )
    parser.add_argument("--parallel", action="store_true", help="train both at once, on disjoint halves of the GPUs")
    own, passed = parser.parse_known_args(argv)
    if any(flag.split("=")[0] in ("--data.role", "--data.init_args.role") for flag in passed):
        raise UserError("--data.role: `pair` trains both roles; use `train.py fit --data.role ...` for one.")
    if any(flag.split("=")[0] == "--ckpt_path" for flag in passed):
        raise UserError("--ckpt_path: `pair` resumes each member from its own checkpoints/last.ckpt by itself.")
    commands = {
        role: [sys.executable, "-m", "memlight.cli", "fit", *passed, "--data.role", role, "--resume", "true"]
        for role in MEMBERS
    }
    environments = _environments(own.parallel)
    if own.parallel:
        processes = [subprocess.Popen(commands[role], env=environments[role]) for role in MEMBERS]
        return max(process.wait() for process in processes)
    for role in MEMBERS:
        status = subprocess.run(commands[role], env=environments[role], check=False).returncode
        if status:
            return status
    return 0


def _environments(parallel: bool) -> dict[str, dict[str, str]]:
    root = str(Path(__file__).resolve().parent.parent)
    base = dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")])))
    if not parallel:
        return dict.fromkeys(MEMBERS, base)
    import torch

    count = torch.cuda.device_count()
    if count == 0:
        threads = max(1, torch.get_num_threads() // 2)
        return {role: dict(base, OMP_NUM_THREADS=str(threads)) for role in MEMBERS}
    if count < 2:
        raise UserError("--parallel: needs at least two GPUs, here is 1; leave it out to train one after the other.")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    devices = visible.split(",") if visible else [str(index) for index in range(count)]
    half = len(devices) // 2
    halves = (devices[:half], devices[half : 2 * half])
    return {
        role: dict(base, CUDA_VISIBLE_DEVICES=",".join(share)) for role, share in zip(MEMBERS, halves, strict=True)
    }
