"""The settings of a training as flat names: what decides what is learned, and how runs are told apart.

A configuration nests (``data.init_args.repeat``); runs are compared, grouped and coloured by flat names. Those asked
for most have a short one (``repeat``); every other is named as its flag of ``train.py`` (``model.temperature``).
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from memlight.errors import UserError
from memlight.storage.run_files import Config, ReleasedFile
from memlight.storage.rundir import RunDir
from memlight.storage.tables import read_json, read_yaml_config

Setting = str | int | float | bool | None
"""A value that can be compared; lists are written as text."""

LEARNING_OPTIONS = ("max_epochs", "precision", "accumulate_grad_batches", "gradient_clip_val", "limit_train_batches")
"""Trainer options that change what is learned."""

IGNORED_DATA = ("role", "without", "splits", "randomised", "run", "root", "num_workers", "download", "memory_limit_gb")
"""Data options that may differ between the members, or on resume: which images a member has of its own (the ids of a
file of splits are compared with the run's own), and what does not change what is learned."""

SHORT_NAMES = {
    "model.class_path": "method",
    "model.encoder": "encoder",
    "data.dataset": "dataset",
    "data.views": "views",
    "data.repeat": "repeat",
    "trainer.max_epochs": "epochs",
    "data.batch_size": "batch_size",
    "model.optim.name": "optimizer",
    "model.optim.lr": "lr",
    "data.seed": "seed",
    "model.init_seed": "init_seed",
}
"""Flag of ``train.py`` -> the name under which it stands in tables and at the top level of a W&B config."""

SEEDS = ("seed", "init_seed", "seed_everything", "data.split_seed")
"""Runs that differ in nothing else are repetitions of one experiment."""


def comparable(options: Any) -> dict[str, Any]:
    """The part of a configuration that decides what is learned, the role aside, as plain containers.

    Args:
        options: parsed options of ``train.py fit``, or what a run's ``config.yaml`` holds.

    Raises:
        KeyError: it is not a whole configuration; or TypeError.
    """
    whole = plain(options if isinstance(options, dict) else options.as_dict())
    data = {key: value for key, value in whole["data"]["init_args"].items() if key not in IGNORED_DATA}
    return {
        "seed_everything": whole["seed_everything"],
        "model": {"class_path": whole["model"]["class_path"], **whole["model"]["init_args"]},
        "data": {"class_path": whole["data"]["class_path"], **data},
        "trainer": {name: whole["trainer"][name] for name in LEARNING_OPTIONS},
    }


def sequence_settings(options: Any) -> dict[str, Any]:
    """`comparable` of a sequence experiment: also its gradient steps, and the callbacks that act on it.

    Raises:
        KeyError: it is not a whole configuration; or TypeError.
    """
    trainer = plain(options if isinstance(options, dict) else options.as_dict())["trainer"]
    learned = comparable(options)
    return {
        **learned,
        "trainer": {**learned["trainer"], "max_steps": trainer["max_steps"]},
        "callbacks": trainer["callbacks"],
    }


def recorded_settings(run: RunDir) -> dict[str, Any]:
    """What a run directory says of how its encoders were made, as `comparable` gives it; empty where it says nothing.

    Raises:
        UserError: its configuration is damaged.
    """
    try:
        if run.config.is_file():
            return comparable(read_yaml_config(run.config, Config))
        if run.released.is_file():
            record = read_json(run.released, ReleasedFile)
            weights = record["weights"]["file"] if record["weights"] else "random"
            return {
                "model": {"class_path": "released", "encoder": record["encoder"], "weights": weights},
                "data": {"dataset": record["images"], "views": record["views"]["name"]},
            }
    except (KeyError, TypeError) as error:
        raise UserError("run", run.root, "its configuration was edited or is damaged", "make it again") from error
    return {}


def plain(value: Any) -> Any:
    """Containers as they come back from YAML or JSON, where tuples are lists."""
    return json.loads(json.dumps(value, default=str))


def as_given(settings: Any) -> Any:
    """Settings without those that are not set: an option that came later does not make an older run another one."""
    if not isinstance(settings, Mapping):
        return settings
    return {name: as_given(value) for name, value in settings.items() if value is not None}


def flat_settings(learned: Mapping[str, Any]) -> dict[str, Setting]:
    """Every setting of a configuration under its flat name, those with a short name first.

    Args:
        learned: what `comparable` gives.
    """
    leaves = dict(_leaves("", learned))
    names = [*(flag for flag in SHORT_NAMES if flag in leaves), *sorted(leaves.keys() - SHORT_NAMES.keys())]
    flat = {SHORT_NAMES.get(flag, flag): leaves[flag] for flag in names}
    if isinstance(method := flat.get("method"), str):
        flat["method"] = method.rpartition(".")[2].lower()
    return flat


def named_settings(learned: Mapping[str, Any]) -> dict[str, Setting]:
    """Those of `flat_settings` that have a short name: what runs are usually grouped by."""
    return {name: value for name, value in flat_settings(learned).items() if name in SHORT_NAMES.values()}


def differing(runs: Sequence[Mapping[str, Setting]]) -> list[str]:
    """Names of the settings in which runs differ; one that only some have differs too."""
    names = dict.fromkeys(name for settings in runs for name in settings)
    return [name for name in names if len({repr(settings.get(name)) for settings in runs}) > 1]


def setting_text(setting: Setting) -> str:
    """A setting as it stands in a table; empty where it is not set."""
    return "" if setting is None else str(setting)


def _leaves(prefix: str, value: Any) -> list[tuple[str, Setting]]:
    if isinstance(value, Mapping):
        dotted = f"{prefix}." if prefix else ""
        return [leaf for key, inner in value.items() for leaf in _leaves(f"{dotted}{key}", inner)]
    return [(prefix, ", ".join(map(str, value)) if isinstance(value, list) else value)]
