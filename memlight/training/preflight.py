"""What a training is asked for, checked before anything is built, loaded or written."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from torch import nn

from memlight.batch import ViewBatch
from memlight.data.augment import Views
from memlight.data.images import ImageDataModule
from memlight.data.recipes import VIEW_SETS
from memlight.data.split_files import SplitFile
from memlight.data.splits import SPLITS, LeftOut, role_splits
from memlight.errors import UserError, named
from memlight.features.passes import require_encoder_takes
from memlight.models.encoders import read_metadata
from memlight.modules.base import SSLModule
from memlight.modules.optim import build_optimizer
from memlight.runs.checkpoints import METADATA_KEY, checkpoint_content, encoder_from_checkpoint
from memlight.runs.launch import settle_devices
from memlight.runs.settings import IGNORED_DATA, as_given, comparable, plain
from memlight.storage.records import difference
from memlight.storage.run_files import Config
from memlight.storage.rundir import MemberDir, RunDir
from memlight.storage.tables import read_yaml_config
from memlight.storage.writing import lacking
from memlight.training.continuing import Refuse, require_continuable, require_kinds, require_weights

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


def slow_bfloat16(precision: object, on_cpu: bool) -> str:
    """A line for a training whose bfloat16 this processor computes in software, some 20 times slower; else empty.

    Args:
        precision: of the trainer.
        on_cpu: whether it trains on the CPU.
    """
    if not on_cpu or "bf16" not in str(precision) or torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return ""
    return f"--trainer.precision {precision}: this processor has no bfloat16 and is many times faster with 32-true."


def _count(devices: int | str | list[int], every: int) -> int:
    """How many devices ``--trainer.devices`` names: a number, indices, or auto and -1 for every one."""
    if isinstance(devices, list):
        return len(devices)
    if "," in str(devices):
        return len([index for index in str(devices).split(",") if index.strip()])
    return max(1, int(devices)) if str(devices).isdigit() else every


def require_encoder_takes_views(encoder: nn.Module, views: Views, num_views: int) -> None:
    """Refuse views of a size that the encoder cannot take.

    Raises:
        UserError: a blank view does not go through.
    """
    for size in dict.fromkeys(views.sizes(num_views)):
        require_encoder_takes(encoder, size, partial(_wrong_views, views, size))


def _wrong_views(views: Views, size: int, why: str) -> UserError:
    ways = ["give `model.image_size` the same value", "change both"]
    if size != views.size:
        why = f"the smaller crops of `data.views` {views.name} have {size} pixels: {why}"
        ways = ["choose larger views", "another encoder", "fewer `data.num_views`"]
    return UserError("data.view_size", views.size, why, ways)


def require_batches(module: SSLModule, data: ImageDataModule, processes: int) -> None:
    """Refuse batches that have no loss, or that the method's normalisation cannot take: those of one image.

    The last batch of an epoch of training is dropped where it is not whole; that of validation may have one image.

    Args:
        module: the training method; not changed.
        data: not read.
        processes: that share a batch.

    Raises:
        UserError: the batch of each process, or every one of validation, is too small.
    """
    name, local = type(module).__name__, data.batch_size // processes
    ways = ["choose 2 or more for each process"]
    if not module.has_loss(local, processes):
        why = f"{name} compares images, and a batch of {local} has nothing to compare"
        raise UserError("data.batch_size", data.batch_size, why, ways)
    if local == 1:
        views = [torch.zeros(1, 3, size, size) for size in data.views.sizes(data.num_views)]
        one = torch.zeros(1, dtype=torch.int64)
        statistics = [(buffer, value.clone()) for buffer, value in module.named_buffers()]
        try:
            with torch.random.fork_rng([]), torch.no_grad():
                module.embed_and_loss(ViewBatch(views, one, one, one))
        except (AssertionError, RuntimeError, ValueError) as error:
            why = f"{name} cannot learn from one image at a time ({' '.join(str(error).split())})"
            raise UserError("data.batch_size", data.batch_size, why, ways) from error
        finally:
            for buffer, before in statistics:
                module.get_buffer(buffer).copy_(before)
    held_out = min(data.num_external, data.batch_size) // processes
    if held_out and not module.has_loss(held_out, processes):
        why = f"{name} compares images, and validation has one for each of {processes} processes"
        raise UserError("data.num_external", data.num_external, why, ["choose more", "choose 0"])


def require_same_config(run: RunDir, options: Any) -> None:
    """Refuse to train a member otherwise than the run's configuration says, or in a run that was trained elsewhere.

    Raises:
        UserError: says what differs first.
    """
    if run.adopted.is_file():
        raise UserError("run", run.root, "holds a pair that was trained elsewhere", "choose another `run`")
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


def require_checkpoint(
    path: Path, options: Any, module: SSLModule, trainer: L.Trainer | None, *, argument: str
) -> None:
    """Refuse a checkpoint that is broken, or of another training.

    Args:
        path: the file.
        options: the parsed options of `fit` or `validate`.
        module: what its weights go to; not changed.
        trainer: of a training that goes on from it, which takes one of the same role and method; None for `validate`.
        argument: what it is called in errors.

    Raises:
        UserError: says what is wrong with it.
    """
    content = checkpoint_content(path, argument=argument)
    metadata = content.get(METADATA_KEY)

    def refuse(why: str) -> UserError:
        return UserError(argument, path, why, "give a checkpoint of this training")

    if not isinstance(metadata, dict) or not isinstance(saved := metadata.get("data"), dict):
        raise UserError(argument, path, "says nothing about its data", "give a checkpoint of `train.py fit`")
    require_kinds({"method": "", "data": {"role": ""}}, metadata, METADATA_KEY, refuse)
    if metadata.get("without") is not None:
        require_kinds({"file": "", "sha256": "", "count": 0}, metadata["without"], f"{METADATA_KEY}.without", refuse)
    encoder_from_checkpoint(path, like=module.encoder, argument=argument)
    if trainer is not None:
        require_same_start(metadata, module, str(path), argument)
    if trainer is not None and saved["role"] != options.data.init_args.role:
        raise UserError(argument, path, f"of the {saved['role']} member", f"give it with `data.role={saved['role']}`")
    saved = plain({key: value for key, value in saved.items() if key not in IGNORED_DATA})
    now = {key: comparable(options)["data"].get(key) for key in saved}
    if as_given(saved) != as_given(now):
        what = difference("data", saved, now)
        raise UserError(argument, path, f"was trained on other images or views ({what})")
    if metadata["method"] != module.method:
        raise refuse(f"was trained with {metadata['method']}, not with {module.method}")
    if trainer is not None:
        require_same_left_out(metadata, options.data.init_args.without, str(path))
        optimizer = build_optimizer(module.optim, module.trained_modules(), options.data.init_args.batch_size)
        callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
        require_continuable(content, module, optimizer, trainer, refuse, schedules=1, callbacks=callbacks)
        if not options.trainer.fast_dev_run:
            _require_place(content, options, trainer, refuse)
    else:
        require_weights(content.get("state_dict"), module, refuse)


def _require_place(checkpoint: Mapping[str, Any], options: Any, trainer: L.Trainer, refuse: Refuse) -> None:
    """Refuse a checkpoint whose place in this training's schedule is not known: its epochs have other steps."""
    data, max_epochs = options.data.init_args, options.trainer.max_epochs
    given = None if data.splits is None else SplitFile.read(data.splits).keys
    shared, *own = (
        data[f"num_{split}"] if given is None else len(given.get(split, ())) for split in role_splits(data.role)
    )
    left_out = 0 if data.without is None else len(LeftOut.read(Path(data.without)).ids)
    batches = (shared + (sum(own) - left_out) * data.repeat) // data.batch_size
    limit = trainer.limit_train_batches
    used = min(limit, batches) if isinstance(limit, int) else int(batches * limit)
    each = math.ceil(used / trainer.accumulate_grad_batches)
    loop = checkpoint["loops"]["fit_loop"]
    epochs = loop["epoch_progress"]["current"]
    steps = loop["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]["step"]["total"]["completed"]
    if epochs["processed"] > max_epochs:
        raise refuse(f"was trained for {epochs['processed']} epochs, more than `trainer.max_epochs={max_epochs}`")
    if epochs["processed"] == epochs["ready"] and steps != each * epochs["processed"]:
        did = f"did {steps} gradient steps in {epochs['processed']} epochs"
        raise refuse(f"{did}, where an epoch now has {each}, so its place in the schedule is not known")


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


def require_same_start(metadata: Mapping[str, Any], module: SSLModule, source: str, argument: str) -> None:
    """Refuse to go on, or to train a second member, from other initial weights than --model.init_from gives.

    Args:
        metadata: what training recorded with an encoder or a checkpoint.
        module: the training method as it is now.
        source: where the metadata are from.
        argument: that names it.

    Raises:
        UserError: only one of the two started from a file, or from other weights.
    """
    before, now = metadata.get("init_from"), module.started_from
    if (before and before["weights_sha256"]) != (now and now["weights_sha256"]):
        then = f"the weights of {before['file']} ({before['words']})" if before else "random weights"
        here = f"those of {now['file']} ({now['words']})" if now else "random ones"
        why = f"{source} started from {then}, where `model.init_from` now says {here}"
        way_out = "give the file of then" if before else "leave `model.init_from` out"
        raise UserError(argument, None, why, [way_out, "choose another `run`"])


def require_same_splits(run: RunDir, options: Any) -> None:
    """Refuse a file of splits that are not those of a run whose images would not be opened otherwise.

    Args:
        run: with a finished member.
        options: the parsed options of `fit`.

    Raises:
        UserError: they differ.
    """
    data = options.data.init_args
    if data.splits is not None:
        ImageDataModule(**{**data.as_dict(), "role": "all", "without": None, "run": str(run.root)}).setup()


@named(path="run")
def is_finished(run: RunDir, role: str, max_epochs: int) -> bool:
    """Whether a member's encoder is there, trained for as long as is asked for."""
    encoder = run.member(role).encoder
    return encoder.exists() and read_metadata(encoder).get("epochs") == max_epochs


def has_started(run: RunDir) -> bool:
    """Whether any member has something that training it again would not replace."""
    return any(path.exists() for one in run.members() for path in (one.encoder, one.checkpoints / "last.ckpt"))


def require_room(member: MemberDir, module: nn.Module, epochs: int, keep_every: int) -> None:
    """Refuse a disk that cannot hold the checkpoints of a training, by what they take at the least.

    Args:
        member: where they go.
        module: the training method.
        epochs: of the whole training.
        keep_every: epochs between the checkpoints that are kept; 0 keeps none on the way.

    Raises:
        UserError: says how much is needed, and how much is free.
    """
    of_weights = sum(tensor.nbytes for tensor in module.state_dict().values())
    of_optimizer = sum(weight.nbytes for weight in module.parameters() if weight.requires_grad)  # SGD's momentum
    kept = epochs // keep_every if keep_every else 0
    there = len(list(member.checkpoints.glob("*.ckpt")))
    checkpoints = max(0, kept + 1 - there) + 1  # a new last.ckpt stands beside the old one while it is written
    if words := lacking(member.dir, checkpoints * (of_weights + of_optimizer)):
        why = f"its checkpoints do not fit on the disk: {words}"
        raise UserError("run", member.dir, why, ["make room", "choose another `run`", "keep fewer with `keep_every`"])
