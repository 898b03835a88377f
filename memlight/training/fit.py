"""LightningCLI for `train.py fit` and `validate`: YAML, run directory, checkpoints, loggers, export."""

import sys
import time
from argparse import ArgumentError
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from signal import SIGTERM
from typing import Any

import lightning.pytorch as L
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, LearningRateMonitor, ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import SIGTERMException

import memlight.modules  # noqa: F401 - registers the methods, so that `class_path: SimCLR` is found
from memlight import dist
from memlight.analyses.observe import ObserverCallback
from memlight.data.images import VIEW_SIZE, ImageDataModule
from memlight.errors import UserError, named, user_error_behind
from memlight.models.encoders import read_metadata
from memlight.modules.base import SSLModule
from memlight.runs.log import LoggerKind
from memlight.runs.settings import comparable
from memlight.runs.sweep import default_run
from memlight.storage.locks import WriterLock
from memlight.storage.rundir import MemberDir, RunDir
from memlight.storage.tables import write_text
from memlight.storage.writing import sweep
from memlight.training.arguments import in_one_line
from memlight.training.chatter import silence, speak
from memlight.training.checkpoint_io import write_whole_checkpoints
from memlight.training.export import ExportEncoder
from memlight.training.loggers import RowsBeforeCheckpoints, make_loggers
from memlight.training.preflight import (
    has_started,
    is_finished,
    require_batches,
    require_checkpoint,
    require_encoder_takes_views,
    require_options,
    require_room,
    require_same_config,
    require_same_left_out,
    require_same_splits,
    require_same_start,
    slow_bfloat16,
)

TRAINER_DEFAULTS: dict[str, Any] = {
    "use_distributed_sampler": False,  # ImageDataModule shards by itself, without padding
    "num_sanity_val_steps": 0,
    "log_every_n_steps": 10,
    "sync_batchnorm": True,
}


class MemlightCLI(LightningCLI):
    """LightningCLI that keeps everything of a run under ``runs/<name>/`` and writes nothing before all is checked."""

    model: L.LightningModule
    datamodule: L.LightningDataModule

    def __init__(self, *args: Any, known_flags: set[str], held: ExitStack, **kwargs: Any) -> None:
        """Parse, build and run.

        Args:
            args: of LightningCLI.
            known_flags: the flags of this command line are added to it, once they are known.
            held: what is to be let go of at the end.
            kwargs: of LightningCLI.
        """
        self._known_flags, self._held = known_flags, held
        self.lock: WriterLock | None = None
        super().__init__(*args, **kwargs)

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

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse, and say in one line what does not parse.

        Raises:
            UserError: names the flag.
        """
        try:
            super().parse_arguments(parser, args)
        except ArgumentError as error:
            flags = {flag for one in self._subcommand_parsers.values() for flag in one._option_string_actions}
            raise UserError(in_one_line(str(error), flags)) from error
        given = self.config[str(self.config.subcommand)]
        self._known_flags |= {f"--{key.replace('.init_args', '')}" for key in given.keys(branches=True)}
        callbacks = getattr(given.trainer, "callbacks", None)
        for callback in callbacks if isinstance(callbacks, list) else ():
            self._known_flags |= {f"--trainer.callbacks.{key}" for key, _ in callback.get("init_args", {}).items()}
        seed = self.config[str(self.config.subcommand)].seed_everything
        if not 0 <= seed < 2**32:
            raise UserError("seed_everything", seed, "must be 0 or more, and below 2^32")

    def _parse_ckpt_path(self) -> None:
        """Leave a checkpoint to `require_checkpoint`: it holds no hyperparameters, so Lightning need not read it."""

    @property
    def options(self) -> Any:
        """The parsed options of the chosen subcommand."""
        return self.config[str(self.subcommand)]

    def before_instantiate_classes(self) -> None:
        """Settle the run directory and refuse what cannot work, before anything is built."""
        options = self.options
        if not options.run:
            if options.run is not None or not options.config:
                raise UserError("run", None, "name the run directory, or give a `config` whose name it takes")
            options.run = str(default_run(str(options.config[-1])))
        for part, name in ((options.model, "init_seed"), (options.data, "seed")):
            if part and part.get("init_args") and name in part.init_args and part.init_args[name] is None:
                part.init_args[name] = options.seed_everything
        self.view_size_said = True
        if options.data and (given := options.data.get("init_args")) and given.get("view_size", 0) is None:
            given.view_size, self.view_size_said = VIEW_SIZE, False
        self.run_dir = RunDir(Path(options.run))
        self.keeps = self.subcommand == "fit" and not options.trainer.fast_dev_run
        require_options(options, training=self.keeps)
        self.role = str(options.data.init_args.role)
        self.ckpt_argument = "ckpt_path"
        self.finished = False
        if self.keeps or self.run_dir.splits.exists():
            options.data.init_args.run = options.run
        if options.trainer.accelerator == "cpu" or not torch.cuda.is_available():
            options.trainer.sync_batchnorm = False  # torch has it for GPUs only
        if self.subcommand == "fit":
            self._settle_fit(options)
        elif options.ckpt_path is None:
            raise UserError("ckpt_path", None, "validate gives the loss of a checkpoint", "say which")
        options.weights_only = True

    @named(path="run")
    def _settle_fit(self, options: Any) -> None:
        self.run_dir.require_writable()
        if self.keeps:
            self.take_lock(self.run_dir.member(self.role))
        if has_started(self.run_dir):
            require_same_config(self.run_dir, options)  # of this member or the other: a pair is trained alike
        self.finished = is_finished(self.run_dir, self.role, options.trainer.max_epochs)
        member = self.run_dir.member(self.role)
        last = member.checkpoints / "last.ckpt"
        if self.finished and options.resume:
            made = read_metadata(member.encoder)
            require_same_left_out(made, options.data.init_args.without, str(member.dir))
            for name in ("init_from", "init_prefix"):
                if name in options.model.init_args:
                    options.model.init_args[name] = None  # nothing will start, and the file may be gone
            require_same_splits(self.run_dir, options)
            return
        if options.ckpt_path is not None:
            return
        if not options.resume and (last.exists() or member.encoder.exists()):
            ways = ["continue with `resume=True`", "choose another `run`"]
            raise UserError("run", options.run, f"{self.role}/ already holds checkpoints", ways)
        if last.exists():
            options.ckpt_path, self.ckpt_argument = str(last), "run"

    def take_lock(self, member: MemberDir) -> None:
        """Be the only process that trains a member, apart from those that this one starts.

        Raises:
            UserError: another one trains it.
        """
        if dist.rank() == 0 and getattr(rank_zero_only, "rank", 0) == 0:
            self.lock = self._held.enter_context(WriterLock(member.lock, member.dir))
            self._held.enter_context(self.lock.while_in_place())
            sweep(self.run_dir.root)

    def instantiate_classes(self) -> None:
        """Build model, data and trainer.

        Raises:
            UserError: of a constructor, which jsonargparse wraps in a page about types.
        """
        try:
            super().instantiate_classes()
        except ValueError as error:
            mistake = user_error_behind(error)
            if mistake is None:
                raise
            raise mistake from error

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Add what every run has: checkpoints, the exported encoder, one progress bar.

        Raises:
            UserError: Lightning refuses the options.
        """
        options = self.options
        member = self.run_dir.member(self.role)
        callbacks: list[Callback] = [*(self.config_init[str(self.subcommand)].trainer.callbacks or [])]
        if options.trainer.enable_progress_bar is not False:
            on_terminal = sys.stderr.isatty()
            callbacks += [TQDMProgressBar() if on_terminal else EpochLines()]
            options.trainer.enable_progress_bar = on_terminal
        if self.keeps:
            callbacks += [*checkpoint_callbacks(member.checkpoints, options.keep_every), LearningRateMonitor("step")]
            callbacks += [RowsBeforeCheckpoints(), ExportEncoder(member.encoder)]
        with trainer_refusals():
            trainer = super().instantiate_trainer(
                callbacks=callbacks,
                logger=False,
                default_root_dir=str(member.dir),
                enable_progress_bar=options.trainer.enable_progress_bar,
                **kwargs,
            )
        write_whole_checkpoints(trainer, self.lock)
        return trainer

    def fit(self, model: L.LightningModule, **kwargs: Any) -> None:
        """Train, unless `--resume` finds the member finished."""
        if self.finished and self.options.resume:
            rank_zero_only(print)(f"{self.run_dir.member(self.role).dir} is finished; nothing to train.")
            return
        self._check_parts(model)
        if isinstance(model, SSLModule) and model.started_from is not None:
            start = model.started_from
            rank_zero_only(print)(f"encoder: starts from {start['file']}: {start['words']}")
        if self.keeps:
            config = comparable(self.options)
            self.trainer.loggers = make_loggers(self.options.logger, self.run_dir, self.role, config)
        speak()
        self.trainer.fit(model, **kwargs)

    def validate(self, model: L.LightningModule, **kwargs: Any) -> None:
        """Print the loss on the external split."""
        if self.options.data.init_args.num_external == 0:
            raise UserError("data.num_external", 0, "validate needs images that the encoder was not trained on")
        self._check_parts(model)
        speak()
        self.trainer.validate(model, **kwargs)

    def _check_parts(self, model: L.LightningModule) -> None:
        """Refuse what only the built parts can tell; the images come last, as reading them takes longest."""
        options, data = self.options, self.datamodule
        if not isinstance(model, SSLModule):
            raise UserError(
                "model", type(model).__name__, "has no encoder to measure", "use a method of memlight.modules"
            )
        if not isinstance(data, ImageDataModule):
            raise UserError("data", type(data).__name__, "has no splits", "use ImageDataModule")
        model.require_views(data.num_views, data.view_size)
        require_encoder_takes_views(model.encoder, data.views, data.num_views)
        require_batches(model, data, self.trainer.world_size)
        slow = slow_bfloat16(self.trainer.precision, self.trainer.strategy.root_device.type == "cpu")
        if slow and dist.rank() == 0:
            print(slow, file=sys.stderr)
        if self.keeps:
            member = self.run_dir.member(self.role)
            require_room(member, model, options.trainer.max_epochs, options.keep_every)
            for other in self.run_dir.members():
                if other.encoder.is_file():
                    require_same_start(read_metadata(other.encoder), model, f"{other.role}/", "run")
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, ObserverCallback) and callback.layers is not None:
                with named(layers="trainer.callbacks.layers"):
                    callback.names(model.encoder)
        if options.ckpt_path is not None:
            trainer = self.trainer if self.subcommand == "fit" else None
            require_checkpoint(Path(options.ckpt_path), options, model, trainer, argument=self.ckpt_argument)
        self._read_images(data, model)

    @rank_zero_only
    def _read_images(self, data: ImageDataModule, model: SSLModule) -> None:
        """Read them before there are loggers; the Trainer's own call then does nothing."""
        data.prepare_data()
        data.view_size_said = self.view_size_said
        data.open(training=self.keeps)
        print("\n".join(data.facts), end="\n" * bool(data.facts), flush=True)
        model.require_classes(data.num_classes)
        model.require_labels(*(data.labels_of(ids) for ids in (data.split.ids_of(data.role), data.split.external)))
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, ObserverCallback):
                callback.require_images(data)
        data.setup()


class LastCheckpoint(ModelCheckpoint):
    """``last.ckpt``; a class of its own, because Lightning tells the states of checkpoint callbacks apart by class."""


class SaveRunConfig(SaveConfigCallback):
    """Write the configuration to the run directory."""

    def save_config(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Called on rank 0 once per process."""
        if stage == "fit" and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            config = of_the_run(self.config)
            write_text(RunDir(Path(config.run)).config, self.parser.dump(config, skip_none=False))


def of_the_run(options: Any) -> Any:
    """A copy of the parsed options without those of one process: where it went on from, and whether it was to."""
    options = options.clone()
    options.ckpt_path, options.resume = None, False
    return options


@contextmanager
def trainer_refusals() -> Iterator[None]:
    """What Lightning says of a Trainer's options that it refuses, as an error that names ``--trainer``."""
    try:
        yield
    except (MisconfigurationException, ImportError, RuntimeError, TypeError, ValueError) as error:
        raise UserError("trainer", None, " ".join(str(error).split())) from error


def checkpoint_callbacks(directory: Path, keep_every: int) -> list[Callback]:
    """``epoch=N.ckpt`` every `keep_every` epochs, and ``last.ckpt`` after every epoch.

    In this order: a run killed between the two trains that epoch again and overwrites ``epoch=N.ckpt``; the other
    way round it would never be written.
    """
    shared: dict[str, Any] = {
        "dirpath": str(directory),
        "save_on_train_epoch_end": True,
        "save_weights_only": False,
        "enable_version_counter": False,
    }
    last = LastCheckpoint(filename="last", every_n_epochs=1, save_top_k=1, **shared)
    if not keep_every:
        return [last]
    return [ModelCheckpoint(filename="{epoch}", every_n_epochs=keep_every, save_top_k=-1, **shared), last]


def run(args: Sequence[str], command_line: type[MemlightCLI] = MemlightCLI) -> None:
    """Parse, build and run one of LightningCLI's subcommands.

    Args:
        args: the words after ``train.py``.
        command_line: what knows the kind of training.

    Raises:
        UserError: for whatever the user can fix.
        SystemExit: with 143 when the process was terminated.
    """
    silence()
    strict = {"exit_on_error": False, "allow_abbrev": False}
    flags: set[str] = set()
    try:
        with ExitStack() as held:
            command_line(
                datamodule_class=None,
                save_config_callback=SaveRunConfig,
                save_config_kwargs={"save_to_log_dir": False},
                trainer_defaults=TRAINER_DEFAULTS,
                seed_everything_default=0,
                subclass_mode_model=True,
                subclass_mode_data=True,
                parser_kwargs={**strict, **{name: strict for name in command_line.subcommands()}},
                args=list(args),
                known_flags=flags,
                held=held,
            )
    except UserError as error:
        error.flags = flags or None
        raise
    except MisconfigurationException as error:
        raise UserError("trainer", None, " ".join(str(error).split())) from error
    except SIGTERMException as error:  # which would exit with 0, as if the training were finished
        raise SystemExit(128 + SIGTERM) from error


class EpochLines(L.Callback):
    """Print one line an epoch: the losses, how long it took, and how long the rest will take."""

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        self._start = time.perf_counter()

    @rank_zero_only
    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print the line."""
        seconds = time.perf_counter() - self._start
        epoch, last = trainer.current_epoch + 1, trainer.max_epochs or 0
        numbers = "  ".join(
            f"{name} {float(trainer.callback_metrics[name]):.4g}"
            for name in ("train/loss", "train/embedding_std", "val/loss", "knn/top1")
            if name in trainer.callback_metrics
        )
        left = f"{(last - epoch) * seconds / 60:.0f} min left" if last > 0 else ""
        print(f"epoch {epoch}/{last}  {numbers}  {seconds:.1f} s  {left}", flush=True)
