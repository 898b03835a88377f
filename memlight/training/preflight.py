"""What a training is asked for, checked before anything is built, loaded or written."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from memlight.data.augment import Views
from memlight.data.recipes import VIEW_SETS
from memlight.data.splits import SPLITS, LeftOut, role_splits
from memlight.errors import UserError, named
from memlight.features.discovery import evaluating
from memlight.models.encoders import read_metadata
from memlight.runs.checkpoints import checkpoint_metadata, encoder_from_checkpoint
from memlight.runs.launch import settle_devices
from memlight.runs.settings import IGNORED_DATA, as_given, comparable, plain
from memlight.storage.records import difference
from memlight.storage.run_files import Config
from memlight.storage.rundir import RunDir
from memlight.storage.tables import read_yaml_config

_DECISIVE = ("seed_everything", "model", "data", "trainer")


def require_options(options: Any, *, training: bool) -> None:
    """Refuse options that cannot work.

    Args:
        options: the parsed options of `fit` or `validate`.
        training: whether it is `fit`, not only for a trial run.

    Raises:
        UserError: names the flag.
    """
    trainer, data = options.trainer, options.data and options.data.get("init_args")
    if not data or "run" not in data:
        raise UserError("data", None, "missing, or without splits", "use `data=ImageDataModule`")
    splits = role_splits(data.role)
    for split in SPLITS:
        if data[f"num_{split}"] < 0:
            raise UserError(f"data.num_{split}", data[f"num_{split}"], "a number of images cannot be negative")
    if data.views not in VIEW_SETS:
        raise UserError("data.views", data.views, "no such augmentation set", f"choose from {', '.join(VIEW_SETS)}")
    if data.std is not None and not all(value > 0 for value in data.std):
        raise UserError("data.std", str(list(data.std)), "must be above 0")
    if training and (trainer.max_epochs is None or trainer.max_epochs < 1):
        raise UserError("trainer.max_epochs", trainer.max_epochs, "say for how many epochs to train, 1 or more")
    for name in ("check_val_every_n_epoch", "accumulate_grad_batches", "log_every_n_steps", "num_nodes"):
        if (value := trainer[name]) is not None and value < 1:
            raise UserError(f"trainer.{name}", value, "must be 1 or more")
    if trainer.limit_train_batches == 0:
        raise UserError("trainer.limit_train_batches", 0, "nothing would be trained")
    if trainer.logger is not None:
        raise UserError("trainer.logger", None, "where numbers go is said with `logger=wandb|wandb-online|csv`")
    if options.keep_every < 0:
        raise UserError("keep_every", options.keep_every, "must be 1 or more, or 0 to keep none on the way")
    processes = require_devices(trainer)
    if data.batch_size % processes:
        raise UserError(
            "data.batch_size",
            data.batch_size,
            f"{processes} processes cannot share it equally",
            f"choose a multiple of {processes}",
        )
    shared, *own = (data[f"num_{split}"] for split in splits)
    images = shared + sum(own) * data.repeat
    if training and data.batch_size > images:
        raise UserError("data.batch_size", data.batch_size, f"an epoch has {images} images", "choose fewer")


def require_devices(trainer: Any) -> int:
    """Refuse more devices than there are, and other ones than torchrun or srun started processes for.

    Returns:
        How many processes the training will have.

    Raises:
        UserError: names the flag.
    """
    started = settle_devices(trainer)
    devices, accelerator = trainer.devices, trainer.accelerator
    available = torch.cuda.device_count()
    if accelerator in ("gpu", "cuda") and available == 0:
        raise UserError("trainer.accelerator", accelerator, "no GPU is visible here", "use cpu")
    count = _count(devices, 1 if accelerator == "cpu" else max(1, available))
    if accelerator in ("gpu", "cuda", "auto") and count > max(1, available):
        instead = "" if available else ". For as many processes on the CPU add `trainer.accelerator=cpu`"
        raise UserError("trainer.devices", devices, f"{available} GPU(s) are visible here{instead}")
    processes = count * int(trainer.num_nodes)
    if started not in (None, processes):
        raise UserError(
            "trainer.devices",
            devices,
            f"{processes} process(es) on {trainer.num_nodes} node(s), where torchrun or SLURM started {started}",
            "start as many, or leave `trainer.devices` and `trainer.num_nodes` out",
        )
    return processes


def _count(devices: int | str | list[int], every: int) -> int:
    """How many devices ``--trainer.devices`` names: a number, indices, or auto and -1 for every one."""
    if isinstance(devices, list):
        return len(devices)
    if "," in str(devices):
        return len([index for index in str(devices).split(",") if index.strip()])
    return max(1, int(devices)) if str(devices).isdigit() else every


def require_encoder_takes(encoder: nn.Module, views: Views, num_views: int) -> None:
    """Refuse views of a size that the encoder cannot take.

    Raises:
        UserError: a blank view does not go through.
    """
    for size in dict.fromkeys(views.sizes(num_views)):
        with evaluating(encoder), torch.no_grad():
            try:
                encoder(torch.zeros(1, 3, size, size))
            except (AssertionError, RuntimeError, ValueError) as error:
                why = f"the encoder cannot take views of this size ({' '.join(str(error).split())})"
                ways = ["give `model.image_size` the same value", "change both"]
                if size != views.size:
                    why = f"the smaller crops of `data.views` {views.name} have {size} pixels: {why}"
                    ways = ["choose larger views", "another encoder", "fewer `data.num_views`"]
                raise UserError("data.view_size", views.size, why, ways) from error


def require_same_config(run: RunDir, options: Any) -> None:
    """Refuse to train a member otherwise than the run's configuration says.

    Raises:
        UserError: says what differs first.
    """
    if run.config.exists():
        require_same_settings(run, comparable, options, _DECISIVE)


def require_same_settings(
    run: RunDir, settings: Callable[[Any], Mapping[str, Any]], options: Any, keys: Sequence[str] | None = None
) -> None:
    """Refuse to go on with other settings than those in the run's config.yaml.

    Args:
        run: a run that has one.
        settings: what counts of a configuration.
        options: the configuration that is asked for.
        keys: which of the settings; all if unset.

    Raises:
        UserError: says what differs first.
    """
    try:
        saved = settings(read_yaml_config(run.config, Config))
    except (KeyError, TypeError) as error:
        raise UserError("run", run.root, f"{run.config} was edited or is damaged", "choose another `run`") from error
    now = settings(options)
    for key in now if keys is None else keys:
        if as_given(saved[key]) != as_given(now[key]):
            why = f"was trained with another configuration ({difference(key, saved[key], now[key])})"
            raise UserError("run", run.root, why, ["choose another `run`", "delete this one"])


def require_checkpoint(path: Path, options: Any, encoder: nn.Module, *, argument: str, training: bool) -> None:
    """Refuse a checkpoint that is broken, or of another training.

    Args:
        path: the file.
        options: the parsed options of `fit` or `validate`.
        encoder: what its weights go to; not changed.
        argument: what it is called in errors.
        training: whether training goes on from it, which takes one of the same role.

    Raises:
        UserError: says what is wrong with it.
    """
    metadata = checkpoint_metadata(path, argument=argument)
    encoder_from_checkpoint(path, like=encoder, argument=argument)
    saved, now = metadata.get("data"), comparable(options)["data"]
    if saved is None:
        raise UserError(argument, path, "says nothing about its data", "give a checkpoint of `train.py fit`")
    if training and saved["role"] != options.data.init_args.role:
        raise UserError(argument, path, f"of the {saved['role']} member", f"give it with `data.role={saved['role']}`")
    saved = plain({key: value for key, value in saved.items() if key not in IGNORED_DATA})
    now = {key: now.get(key) for key in saved}
    if as_given(saved) != as_given(now):
        what = difference("data", saved, now)
        raise UserError(argument, path, f"was trained on other images or views ({what})")
    if training:
        require_same_left_out(metadata, options.data.init_args.without, str(path))


def require_same_left_out(metadata: Mapping[str, Any], without: str | None, source: str) -> None:
    """Refuse to go on, or to leave a member as it is, with other images left out than it was trained without.

    Args:
        metadata: what training recorded with the encoder or the checkpoint.
        without: the file of --data.without.
        source: what the user typed to name the member, for the error message.

    Raises:
        UserError: the files' contents differ, or only one of the two leaves images out.
    """
    before, now = metadata.get("without"), None if without is None else LeftOut.read(Path(without)).record
    if (before and before["sha256"]) != (now and now["sha256"]):
        count = f"{before['count']} images of {before['file']}" if before else "no image"
        raise UserError(
            "data.without",
            without,
            f"{source} left out {count}, and not what this says now",
            "give what it was trained with, or choose another `run`",
        )


@named(path="run")
def is_finished(run: RunDir, role: str, max_epochs: int) -> bool:
    """Whether a member's encoder is there, trained for as long as is asked for."""
    encoder = run.member(role).encoder
    return encoder.exists() and read_metadata(encoder).get("epochs") == max_epochs


def has_started(run: RunDir) -> bool:
    """Whether any member has something that training it again would not replace."""
    return any(path.exists() for one in run.members() for path in (one.encoder, one.checkpoints / "last.ckpt"))
