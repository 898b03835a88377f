"""`train.py pair`: the two members of a pair as two `fit` processes."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from memlight.errors import UserError
from memlight.runs.sweep import default_run, sweep_point
from memlight.storage.rundir import RunDir
from memlight.training.arguments import values_of
from memlight.training.processes import (
    Environment,
    fit_command,
    in_turn,
    own_environment,
    refuse_launchers,
    shares_of_processors,
    side_by_side,
)

MEMBERS = ("candidate", "independent")


def train_pair(argv: Sequence[str]) -> int:
    """Train both members, one after the other or side by side; every other flag goes to `fit`.

    Returns:
        0, or the exit status of the first member that failed; 130 after ctrl-C, which ends both.

    Raises:
        UserError: for flags that make no sense for a pair, before anything is started.
    """
    parser = argparse.ArgumentParser(
        prog="train.py pair",
        usage="train.py pair [-h] [--parallel] [--run DIR] [options of train.py fit]",
        description="Train a candidate and an independent encoder into one run directory. A finished member is "
        "kept, an interrupted one resumes. All other options are those of `train.py fit` and are passed on: "
        "`train.py fit --help` lists them.",
        allow_abbrev=False,
    )
    parser.add_argument("--parallel", action="store_true", help="train both at once, on disjoint halves of the GPUs")
    own, passed = parser.parse_known_args(argv)
    if values_of(passed, "--data.role", "--data.init_args.role"):
        raise UserError("data.role", None, "`pair` trains both roles", "use `train.py fit --data.role ...` for one")
    if values_of(passed, "--ckpt_path"):
        raise UserError("ckpt_path", None, "`pair` resumes each member from its own checkpoints/last.ckpt by itself")
    if any(word.partition("=")[0] == "--print_config" for word in passed):
        from memlight.training.fit import run

        run(["fit", *passed])
    refuse_launchers(
        "pair",
        "start `train.py fit --data.role candidate` so, then `--data.role independent`, each with --resume true.",
    )
    configs = values_of(passed, "--config", "-c")
    if sweep_point() and configs and not values_of(passed, "--run"):
        passed += ["--run", str(default_run(configs[-1]))]
    commands = {role: fit_command([*passed, "--data.role", role]) for role in MEMBERS}
    environment = own_environment()

    def train() -> int:
        if own.parallel:
            return side_by_side(commands, _halves(environment, passed), environment)
        return in_turn(list(commands.values()), environment)

    try:
        return _for_sweep(train, passed) if sweep_point() else train()
    except KeyboardInterrupt:  # the members have said so
        return 130


def _for_sweep(train: Callable[[], int], passed: Sequence[str]) -> int:
    """Train both members as a point of a sweep, with a W&B run that the agent sees; the members do not know of it."""
    runs, kinds = values_of(passed, "--run"), values_of(passed, "--logger")
    if not runs or kinds[-1:] == ["csv"]:
        return train()
    from memlight.training.loggers import sweep_run

    return sweep_run("wandb-online" if kinds[-1:] == ["wandb-online"] else "wandb", RunDir(Path(runs[-1])), train)


def _halves(environment: Environment, passed: Sequence[str]) -> list[Environment]:
    """What each member's environment has of its own: its half of the GPUs, or of the processor's cores.

    Raises:
        UserError: there is one GPU only, or more are asked for than half of them.
    """
    import torch

    count = 0 if values_of(passed, "--trainer.accelerator")[-1:] == ["cpu"] else torch.cuda.device_count()
    if count == 1:
        raise UserError(
            "parallel", None, "needs at least two GPUs, here is 1", "leave it out to train one after the other"
        )
    half = count // 2
    for devices in values_of(passed, "--trainer.devices")[-1:]:
        if count and devices.isdigit() and int(devices) > half:
            raise UserError("trainer.devices", devices, f"with `parallel` each member has {half} of the {count} GPUs")
    return shares_of_processors(len(MEMBERS), environment, gpus=count)
