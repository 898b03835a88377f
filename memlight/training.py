"""LightningCLI for `train.py fit` and `validate`: YAML, run directory, checkpoints, loggers, export."""

import logging
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, LearningRateMonitor, ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback

import memlight.data.images
import memlight.modules  # noqa: F401 - registers the methods, so that `class_path: SimCLR` is found
from memlight.callbacks.export import ExportEncoder
from memlight.callbacks.progress import EpochLines
from memlight.models.encoders import read_metadata
from memlight.errors import UserError
from memlight.logs import LoggerKind, make_loggers
from memlight.rundir import RunDir
from memlight.tables import read_yaml_config, write_text

TRAINER_DEFAULTS: dict[str, Any] = {
    "use_distributed_sampler": False,  # ImageDataModule shards by itself, without padding
    "num_sanity_val_steps": 0,
    "log_every_n_steps": 10,
    "sync_batchnorm": True,
}


class MemlightCLI(LightningCLI):
    """LightningCLI that keeps everything of a run under ``runs/<name>/``."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the options that belong to the run rather than to model, data or trainer."""
        parser.add_argument("--run", type=str | None, default=None, help="run directory; runs/<config's name> if unset")
        parser.add_argument(
            "--logger",
            type=LoggerKind,
            default="wandb",
            help="wandb (offline, nothing leaves the machine), wandb-online, or csv; metrics.csv is always written",
        )
        parser.add_argument(
            "--keep_every", type=int, default=50, help="keep checkpoints/epoch=N.ckpt every N epochs; 0 keeps none"
        )
        parser.add_argument(
            "--resume",
            type=bool,
            default=False,
            help="continue from the member's checkpoints/last.ckpt if there is one, and leave a finished member alone",
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """`fit` and `validate`; analyses are commands of analyze.py."""
        kept = ("fit", "validate")
        return {name: skip for name, skip in LightningCLI.subcommands().items() if name in kept}

    @property
    def options(self) -> Any:
        """The parsed options of the chosen subcommand."""
        return self.config[str(self.subcommand)]

    def before_instantiate_classes(self) -> None:
        """Settle the run directory and refuse what cannot work, before anything is built."""
        options = self.options
        if options.run is None:
            if not options.config:
                raise UserError("--run: name the run directory, or give a --config whose name it takes.")
            options.run = str(Path("runs") / Path(str(options.config[-1])).stem)
        self.run_dir = RunDir(Path(options.run))
        data = options.data.init_args
        self.role = str(data.get("role", "candidate"))
        data.run = options.run
        require_devices(options.trainer)
        if not torch.cuda.is_available():
            options.trainer.sync_batchnorm = False
        if self.subcommand == "fit":
            self._settle_fit(options)

    def _settle_fit(self, options: Any) -> None:
        member = self.run_dir.member(self.role)
        last = member.checkpoints / "last.ckpt"
        self.finished = False
        if member.encoder.exists():
            self._require_same_config(options)
            self.finished = read_metadata(member.encoder, flag="--run").get("epochs") == options.trainer.max_epochs
            if self.finished and options.resume:
                return
        if last.exists() and options.ckpt_path is None:
            if not options.resume:
                raise UserError(
                    f"--run {options.run}: {self.role}/ already holds checkpoints. Continue with --resume true, or "
                    "choose another --run."
                )
            self._require_same_config(options)
            options.ckpt_path = str(last)

    def _require_same_config(self, options: Any) -> None:
        saved_path = self.run_dir.config
        if not saved_path.exists():
            return
        saved, now = read_yaml_config(saved_path), comparable(options)
        for key in ("seed_everything", "model", "data", "max_epochs", "precision"):
            before, after = comparable(saved).get(key), now.get(key)
            if before != after:
                raise UserError(
                    f"--run {options.run} was trained with another configuration ({difference(key, before, after)}). "
                    "Choose another --run, or delete this one."
                )

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Add what every run has: loggers, checkpoints, the exported encoder, one progress bar."""
        options = self.options
        member = self.run_dir.member(self.role)
        configured = self.config_init[str(self.subcommand)].trainer.callbacks or []
        fitting = self.subcommand == "fit" and not options.trainer.fast_dev_run
        loggers = make_loggers(options.logger, self.run_dir, self.role, comparable(options)) if fitting else False
        callbacks: list[Callback] = [*configured]
        if options.trainer.enable_progress_bar is not False:
            on_terminal = sys.stderr.isatty()
            callbacks += [TQDMProgressBar() if on_terminal else EpochLines()]
            options.trainer.enable_progress_bar = on_terminal
        if fitting:
            callbacks += [*checkpoint_callbacks(member.checkpoints, options.keep_every), LearningRateMonitor("step")]
            callbacks += [ExportEncoder(member.encoder)]
        return super().instantiate_trainer(
            callbacks=callbacks,
            logger=loggers,
            default_root_dir=str(member.dir),
            enable_progress_bar=options.trainer.enable_progress_bar,
            **kwargs,
        )

    def fit(self, model: L.LightningModule, **kwargs: Any) -> None:
        """Train, unless `--resume` finds the member finished."""
        if self.finished and self.options.resume:
            print(f"{self.run_dir.member(self.role).dir} is finished; nothing to train.")
            return
        self.trainer.fit(model, **kwargs)


class LastCheckpoint(ModelCheckpoint):
    """``last.ckpt``; a class of its own, because Lightning tells the states of checkpoint callbacks apart by class."""


class SaveRunConfig(SaveConfigCallback):
    """Write the configuration to the run directory and hand it to the loggers."""

    def save_config(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Called on rank 0 once per process."""
        if stage == "fit":
            text = self.parser.dump(self.config, skip_none=False)
            write_text(RunDir(Path(self.config.run)).config, text)


def checkpoint_callbacks(directory: Path, keep_every: int) -> list[Callback]:
    """``last.ckpt`` after every epoch, and ``epoch=N.ckpt`` every `keep_every` epochs."""
    shared: dict[str, Any] = {"dirpath": str(directory), "save_on_train_epoch_end": True, "save_weights_only": False}
    last = LastCheckpoint(filename="last", every_n_epochs=1, save_top_k=1, enable_version_counter=False, **shared)
    if not keep_every:
        return [last]
    return [last, ModelCheckpoint(filename="{epoch}", every_n_epochs=keep_every, save_top_k=-1, **shared)]


def require_devices(trainer: Any) -> None:
    """Refuse more devices than there are, naming the flag."""
    devices = trainer.devices
    if trainer.accelerator in ("gpu", "cuda", "auto") and isinstance(devices, int | str) and str(devices).isdigit():
        available = torch.cuda.device_count()
        on_gpu = trainer.accelerator != "auto" or available > 0
        if on_gpu and int(devices) > available:
            raise UserError(f"--trainer.devices {devices}: this machine has {available} GPU(s).")


def comparable(options: Any) -> dict[str, Any]:
    """The part of a configuration that decides what is learned, the role aside, as plain containers."""
    plain = options if isinstance(options, dict) else options.as_dict()
    data = {key: value for key, value in plain["data"]["init_args"].items() if key not in IGNORED_DATA}
    return {
        "seed_everything": plain["seed_everything"],
        "model": {"class_path": plain["model"]["class_path"], **plain["model"]["init_args"]},
        "data": {"class_path": plain["data"]["class_path"], **data},
        "max_epochs": plain["trainer"]["max_epochs"],
        "precision": plain["trainer"]["precision"],
    }


IGNORED_DATA = ("role", "run", "root", "num_workers", "download", "memory_limit_gb")
"""Data options that may differ between the members, or on resume, without changing what is learned."""


def difference(key: str, before: Any, after: Any) -> str:
    """Where two configurations differ first, as ``data.repeat: 1, now 4``."""
    if isinstance(before, dict) and isinstance(after, dict):
        for name in sorted(before.keys() | after.keys()):
            if before.get(name) != after.get(name):
                return difference(f"{key}.{name}", before.get(name), after.get(name))
    return f"{key}: {before}, now {after}"


def run(args: Sequence[str]) -> None:
    """Parse, build and run one of LightningCLI's subcommands.

    Raises:
        UserError: for whatever the user can fix; jsonargparse itself exits with status 2 on options
            that do not parse.
    """
    for harmless in (
        ".*does not have many workers.*",  # images are in memory
        ".*`isinstance\\(treespec, LeafSpec\\)` is deprecated.*",  # Lightning 2.6 against torch 2.15
        ".*Precision bf16-mixed is not supported by the model summary.*",
        ".*args parameter is intended to run from within Python.*",
    ):
        warnings.filterwarnings("ignore", message=harmless)
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(lambda line: "litlogger" not in line.msg)
    try:
        MemlightCLI(
            datamodule_class=None,
            save_config_callback=SaveRunConfig,
            save_config_kwargs={"save_to_log_dir": False},
            trainer_defaults=TRAINER_DEFAULTS,
            seed_everything_default=0,
            subclass_mode_model=True,
            subclass_mode_data=True,
            args=list(args),
        )
    except MisconfigurationException as error:
        raise UserError(f"--trainer: {' '.join(str(error).split())}") from error
