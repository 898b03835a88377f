"""Names, groups, tags and config keys of W&B runs: one vocabulary for trainings, pairs and analyses. No wandb.

Every W&B run of a run directory is in the group of its name, and has the settings that runs are usually grouped by
at the top level of its config (``method``, ``encoder``, ``repeat``, ``seed``, ...), beside the whole configuration.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from memlight.errors import UserError
from memlight.runs.settings import named_settings, recorded_settings
from memlight.storage.rundir import RunDir

LONGEST_TAG = 64
"""W&B refuses longer tags."""


@dataclass(frozen=True)
class WandbKeys:
    """How one W&B run is found and grouped.

    Attributes:
        name: shown in lists; starts with the run directory's name.
        group: the run directory's name; of an arm of a removal study that of its run.
        job_type: candidate, independent, all (trainings), pair (a point of a sweep) or analyze.
        tags: method, encoder, data set, and the job.
        config: flat keys, then the nested configuration of the training.
    """

    name: str
    group: str
    job_type: str
    tags: tuple[str, ...]
    config: dict[str, Any]


def training_keys(run: RunDir, role: str, learned: Mapping[str, Any]) -> WandbKeys:
    """Of the training of one member.

    Args:
        run: the run directory.
        role: which member.
        learned: `memlight.runs.settings.comparable` of its configuration.
    """
    return _keys(run, f"{run.name}/{role}", role, role, learned, role)


def pair_keys(run: RunDir) -> WandbKeys:
    """Of both members together, once a member's training has written its configuration."""
    return _keys(run, run.name, "pair", "pair", learned_by(run), "pair")


def analysis_keys(run: RunDir, directory: str, command: str, members: list[str]) -> WandbKeys:
    """Of one analysis.

    Args:
        run: the run directory.
        directory: name of the results' directory, ``<command>[-<tag>]``.
        command: the command of ``analyze.py``.
        members: names of the encoders that were measured; the role is pair for two trained ones.
    """
    trained = [name for name in members if name != "random"]
    role = "pair" if len(trained) > 1 else trained[0] if trained else "random"
    keys = _keys(run, f"{run.name}/{directory}", "analyze", role, learned_by(run), command)
    return WandbKeys(keys.name, keys.group, keys.job_type, keys.tags, {"command": command, **keys.config})


def learned_by(run: RunDir) -> dict[str, Any]:
    """What `memlight.runs.settings.recorded_settings` gives; empty where it cannot be read: results matter more."""
    try:
        return recorded_settings(run)
    except UserError:
        return {}


def _keys(run: RunDir, name: str, job_type: str, role: str, learned: Mapping[str, Any], last_tag: str) -> WandbKeys:
    flat = named_settings(learned)
    tags = [flat[key] for key in ("method", "encoder", "dataset") if flat.get(key)]
    short = dict.fromkeys(str(tag)[:LONGEST_TAG] for tag in (*tags, last_tag))
    return WandbKeys(name, run.group, job_type, tuple(short), {"run": run.name, "role": role, **flat, **learned})
