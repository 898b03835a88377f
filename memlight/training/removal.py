"""`train.py removal`: the candidate member trained again without some of its images, then what that cost."""

import argparse
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from memlight.analyses.layermem.columns import LAYERMEM_SAMPLES
from memlight.analyses.removal.columns import REMOVAL_WITHOUT
from memlight.commands import build_parser, run_command
from memlight.errors import UserError, at_least, named
from memlight.models.trust import is_ones_own, require_trusted
from memlight.runs.flags import Logger, Results
from memlight.storage.image_names import with_paths
from memlight.storage.run_files import Config, Summary
from memlight.storage.rundir import RemovalDir, RunDir
from memlight.storage.tables import Table, read_json, read_table, read_yaml_config, write_table
from memlight.training.processes import (
    Environment,
    fit_command,
    in_turn,
    own_environment,
    refuse_launchers,
    shares_of_processors,
    side_by_side,
)

if TYPE_CHECKING:
    from memlight.analyses.removal.arms import Arm
    from memlight.runs.opened import OpenedRun


def train_removal(argv: Sequence[str]) -> int:
    """Run the command line; keys of ``--config`` files are flags that come before all others.

    Returns:
        0, or the exit status of the first arm that failed; 130 after ctrl-C.
    """
    files = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    files.add_argument("--config", "-c", action="append", default=[])
    found, flags = files.parse_known_args(argv)
    of_files = [flag for name in found.config for flag in flags_of_config(Path(name))]
    parser = build_parser("train.py", "Train encoders.", {"removal": removal})
    try:
        status = run_command(parser, {"removal": removal}, ["removal", *of_files, *flags])
    except KeyboardInterrupt:  # the arms have said so
        return 130
    return int(status)  # type: ignore[call-overload, no-any-return]


def removal(
    run: str,
    remove: int = 100,
    trials: int = 3,
    rank_by: str | None = None,
    parallel: bool = False,
    root: str | None = None,
    logger: Logger = "wandb",
) -> int:
    """Train again without the most memorised candidates, the least, or random ones (--config FILE: flags as YAML).

    Each arm trains the candidate member of --run again with all its settings, and is kept when it is finished. The run
    needs its analysis layermem. `analyze.py removal` evaluates the arms again.

    Args:
        run: run directory of a trained pair.
        remove: candidates that each arm leaves out.
        trials: arms that leave out random ones.
        rank_by: layer by whose score candidates are ranked; the last one if unset.
        parallel: train several arms at once, on disjoint GPUs, or on equal shares of the cores where there are none.
        root: where the images are now; where they were at training if unset.
        logger: wandb (offline), wandb-online, or csv for files alone.

    Returns:
        0, or the exit status of the first arm that failed.
    """
    at_least(1, remove=remove, trials=trials)
    refuse_launchers("removal", "start it once: it starts the trainings by itself, --parallel several at a time.")
    study, arms = _plan(run, remove, trials, rank_by, root)
    passed = ["--logger", logger, "--keep_every", "0", *(["--data.root", root] if root is not None else [])]
    commands = {arm.name: _command(RunDir(Path(run)), study.arm(arm.name), passed) for arm in arms}
    environment = own_environment()
    if parallel:
        shares = _shares(read_yaml_config(RunDir(Path(run)).config, Config)["trainer"], len(arms), environment)
        status = side_by_side(commands, shares, environment)
    else:
        status = in_turn(list(commands.values()), environment)
    if status == 0:
        from memlight.analyses.removal.command import evaluate_removal
        from memlight.runs.flags import Place

        evaluate_removal(run, studies=[study.tag], place=Place(root=root), results=Results(logger=logger))
    return status


def flags_of_config(path: Path) -> list[str]:
    """The flags that a YAML file stands for: ``rank_by: layer8`` is ``--rank-by=layer8``; null leaves a flag out.

    Raises:
        UserError: a key is no flag of the command.
    """
    known = inspect.signature(removal).parameters
    flags = []
    for key, value in read_yaml_config(path, dict[str, Any]).items():
        if key not in known:
            raise UserError("config", path, f"{key}: no such key", f"train.py removal takes {', '.join(known)}")
        flag = "--" + key.replace("_", "-")
        if isinstance(value, bool):
            flags.append(flag if value else "--no-" + flag.removeprefix("--"))
        elif value is not None:
            flags.append(f"{flag}={value}")
    return flags


def _plan(run: str, remove: int, trials: int, rank_by: str | None, root: str | None) -> tuple[RemovalDir, "list[Arm]"]:
    """Check all that can be checked, choose what each arm leaves out, and write it down."""
    from memlight.analyses.removal.arms import choose_arms
    from memlight.runs.opened import read_run

    opened = read_run(run, root=root)
    opened.run.require_writable()
    layer, last, table = _scores(opened, rank_by)
    if remove > len(table["id"]):
        raise UserError("remove", remove, f"the run has {len(table['id'])} candidates", "choose fewer")
    opened.require_images("external")
    opened.require_images(opened.probe_split, at_least=1)
    opened.read_images(labelled=True)
    study = opened.run.removal(remove, None if rank_by is None or layer == last else layer)
    arms = choose_arms(table["id"], table["score"].astype(np.float64), remove, trials, opened.data.seed)
    for arm in arms:
        _require_as_before(study, arm, layer)
    for arm in arms:
        place = study.arm(arm.name)
        if not place.without.exists():
            left_out = {"id": arm.ids, "layer": np.full(len(arm.ids), layer), "score": arm.scores}
            write_table(place.without, with_paths(left_out, REMOVAL_WITHOUT, opened.data.names), REMOVAL_WITHOUT)
        if not place.splits.exists():
            opened.split.save(place.splits)
    return study, arms


def _scores(opened: "OpenedRun", rank_by: str | None) -> tuple[str, str, Table]:
    """The layer by which candidates are ranked, the last layer, and id and score of each.

    Raises:
        UserError: they were not measured, or on other encoders or splits than the run has now.
    """
    from memlight.runs.checkpoints import file_sha256

    run = opened.run
    again = f"make it with `python analyze.py layermem --run {run.root}`"
    for role in ("candidate", "independent"):
        if role not in opened.metadata:
            raise UserError("run", run.root, f"no {role}/encoder.safetensors", "`train.py pair` trains both members")
    if opened.adopted:
        raise UserError("run", run.root, "its encoders were trained elsewhere, which cannot be done again here")
    if "without" in opened.metadata["candidate"]:
        raise UserError("run", run.root, "its candidate was itself trained with `data.without`", "name a whole pair")
    if not run.config.is_file():
        raise UserError("run", run.root, "no config.yaml, so how the candidate was trained is unknown")
    encoder = read_yaml_config(run.config, Config)["model"]["init_args"].get("encoder")
    if isinstance(encoder, str) and is_ones_own(encoder):
        with named(path="run"):
            require_trusted(encoder, run.config)
    analysis = run.analysis("layermem")
    samples = analysis.table("samples")
    if not samples.is_file():
        raise UserError("run", run.root, f"the candidates have no scores yet (no {samples})", again)
    measured = read_json(analysis.summary, Summary)["checkpoints"]
    if any(measured.get(role) != file_sha256(run.member(role).encoder) for role in ("candidate", "independent")):
        raise UserError("run", run.root, f"{samples} is of other encoders than the run has now", again)
    table = read_table(samples, LAYERMEM_SAMPLES)
    layers = list(dict.fromkeys(table["layer"].tolist()))
    layer = layers[-1] if rank_by is None else rank_by
    if layer not in layers:
        raise UserError("rank_by", layer, f"{samples} has no such layer", f"choose from {', '.join(layers)}")
    rows = (table["split"] == "candidate") & (table["layer"] == layer)
    if not np.array_equal(table["id"][rows], opened.split.candidate):
        raise UserError("run", run.root, f"{samples} has other candidates than splits.json", again)
    return layer, layers[-1], {name: table[name][rows] for name in ("id", "score")}


def _require_as_before(study: RemovalDir, arm: "Arm", layer: str) -> None:
    """Refuse to mix arms that were chosen by other scores.

    Raises:
        UserError: an arm that was begun leaves other images out.
    """
    path = study.arm(arm.name).without
    if not path.exists():
        return
    before = read_table(path, REMOVAL_WITHOUT)
    if not np.array_equal(before["id"], arm.ids) or set(before["layer"].tolist()) != {layer}:
        raise UserError(
            "run",
            None,
            f"{path} was chosen by other scores than analysis/layermem has now",
            f"delete {study.dir} to train the arms anew",
        )


def _command(run: RunDir, arm: RunDir, passed: Sequence[str]) -> list[str]:
    member = ["--run", str(arm.root), "--data.role", "candidate", "--data.without", str(arm.without)]
    return fit_command(["--config", str(run.config), *member, *passed])


def _shares(trainer: dict[str, Any], arms: int, environment: Environment) -> list[Environment]:
    """As many shares of the GPUs, or of the cores, as can train an arm each as the run's candidate was trained.

    Args:
        trainer: of the run's configuration.
        arms: how many there are to train.
        environment: says which GPUs are visible.

    Raises:
        UserError: there is room for one only.
    """
    import torch

    gpus = 0 if trainer["accelerator"] == "cpu" else torch.cuda.device_count()
    if gpus == 0:
        return shares_of_processors(min(arms, torch.get_num_threads()), environment, gpus=0)
    devices = trainer["devices"]
    each = int(devices) if str(devices).isdigit() else len(devices) if isinstance(devices, list) else 1
    if gpus // each < 2:
        raise UserError(
            "parallel",
            None,
            f"an arm needs {each} of the {gpus} GPU(s) here",
            "leave it out to train one after the other",
        )
    return shares_of_processors(min(arms, gpus // each), environment, gpus=gpus)
