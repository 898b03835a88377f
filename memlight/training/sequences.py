"""LightningCLI for sequence experiments: what `train.py fit` does where --data is a SequenceDataModule."""

import sys
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.utilities import rank_zero_only
from tqdm import tqdm

from memlight.batch import SequenceBlock
from memlight.data.sequences import SequenceDataModule
from memlight.errors import UserError
from memlight.modules.sequence.module import read_sequence_checkpoint
from memlight.modules.sequence.shares import IndependentMembers
from memlight.runs.settings import plain, sequence_settings
from memlight.runs.sweep import default_run
from memlight.sequences.evaluation import evaluation_of
from memlight.sequences.interventions import AtSteps, sequence_module
from memlight.storage.run_files import SequenceSummary
from memlight.storage.rundir import SEQUENCE, RunDir
from memlight.storage.tables import read_json
from memlight.training.chatter import speak
from memlight.training.checkpoint_io import write_whole_checkpoints
from memlight.training.continuing_sequences import require_sequence_checkpoint
from memlight.training.fit import MemlightCLI, checkpoint_callbacks, of_the_run, trainer_refusals
from memlight.training.loggers import RowsBeforeCheckpoints, make_loggers
from memlight.training.preflight import require_devices, require_same_settings


class SequenceCLI(MemlightCLI):
    """MemlightCLI for a training that has no images, no roles, and counts gradient steps instead of epochs."""

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Only `fit`: evaluation is a callback, and `analyze.py sequence` reads its results."""
        return {name: skip for name, skip in LightningCLI.subcommands().items() if name == "fit"}

    def before_instantiate_classes(self) -> None:
        """Settle the run directory and refuse what cannot work, before anything is built."""
        options = self.options
        if not options.run:
            if options.run is not None or not options.config:
                raise UserError("run", None, "name the run directory, or give a `config` whose name it takes")
            options.run = str(default_run(str(options.config[-1])))
        if options.model is None or not options.model.get("init_args"):
            raise UserError("model", None, "missing", "use SequenceDAM, SequenceAttention or SequenceGPT")
        model, data, trainer = options.model.init_args, options.data.init_args, options.trainer
        for part, name, value in (
            (model, "init_seed", options.seed_everything),
            (data, "seed", options.seed_everything),
            (model, "num_bits", data.num_bits),
        ):
            if name in part and part[name] is None:
                part[name] = value
        for name, refused, why in (
            ("max_steps", trainer.max_steps < 1, "say how many gradient steps to train, 1 or more"),
            ("max_epochs", trainer.max_epochs not in (None, -1), "say `trainer.max_steps`; leave epochs out"),
            ("log_every_n_steps", trainer.log_every_n_steps < 1, "must be 1 or more"),
            ("precision", str(trainer.precision) in ("16", "16-mixed", "fp16"), "use bf16-mixed, 32-true or 64-true"),
        ):
            if refused:
                raise UserError(f"trainer.{name}", trainer[name], why)
        if trainer.logger is not None:
            raise UserError("trainer.logger", None, "where numbers go is said with `logger` wandb|wandb-online|csv")
        self.processes = require_devices(trainer)
        if self.processes > 1 and trainer.strategy not in ("auto", "ddp"):
            raise UserError("trainer.strategy", trainer.strategy, "members share nothing", "leave it out")
        trainer.max_epochs, trainer.sync_batchnorm = -1, False
        self.run_dir = RunDir(Path(options.run))
        self.keeps = not trainer.fast_dev_run
        self.finished = False
        if self.keeps:
            self._settle_fit(options)
        options.weights_only = True

    def _settle_fit(self, options: Any) -> None:
        run = self.run_dir
        run.require_writable()
        self.take_lock(run.member(SEQUENCE))
        if run.splits.exists():
            raise UserError("run", run.root, "holds encoders of images", "choose another `run`")
        last = run.root / "checkpoints" / "last.ckpt"
        if last.exists():
            require_same_settings(run, sequence_settings, options)
            self.finished = _finished(run, options.trainer.max_steps)
            if options.ckpt_path is not None:
                raise UserError("ckpt_path", options.ckpt_path, f"{run.root} has been started", "choose another `run`")
            if not options.resume:
                why = "already holds checkpoints. Continue with `resume=True`, or choose another `run`"
                raise UserError("run", run.root, why)
            options.ckpt_path = str(last)
        if options.ckpt_path is not None:
            read_sequence_checkpoint(Path(options.ckpt_path))  # refuses what is none, before anything is built

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Add what every run has: checkpoints and progress.

        Raises:
            UserError: Lightning refuses the options.
        """
        options = self.options
        callbacks: list[Callback] = [*(self.config_init["fit"].trainer.callbacks or [])]
        if options.trainer.enable_progress_bar is not False:
            callbacks.append(SequenceProgress())
        if self.keeps:
            directory = self.run_dir.root / "checkpoints"
            callbacks += [RowsBeforeCheckpoints(), SwitchCheckpoint(directory)]
            callbacks += checkpoint_callbacks(directory, keep_every=0)
        if self.processes > 1:
            kwargs["strategy"] = IndependentMembers()
        with trainer_refusals():
            trainer = LightningCLI.instantiate_trainer(
                self,
                callbacks=callbacks,
                logger=False,
                default_root_dir=str(self.run_dir.root),
                enable_progress_bar=False,
                **kwargs,
            )
        write_whole_checkpoints(trainer, self.lock)
        return trainer

    def fit(self, model: L.LightningModule, **kwargs: Any) -> None:
        """Train, unless `--resume` finds the experiment finished."""
        if self.finished and self.options.resume:
            rank_zero_only(print)(f"{self.run_dir.root} is finished; nothing to train.")
            return
        evaluation = evaluation_of(self.trainer, "train.py fit")
        self._check_parts(model)
        if self.keeps:
            config = sequence_settings(self.options)
            self.trainer.loggers = make_loggers(self.options.logger, self.run_dir, "sequence", config)
            evaluation.directory = self.run_dir.root
            evaluation.args = plain(of_the_run(self.options).as_dict())
        speak()
        self.trainer.fit(model, **kwargs)

    def _check_parts(self, model: L.LightningModule) -> None:
        """Refuse what only the built parts can tell, before there is a run directory."""
        module, data = sequence_module(model), self.datamodule
        if not isinstance(data, SequenceDataModule):
            raise UserError("data", type(data).__name__, "has no sequences", "use SequenceDataModule")
        module.require_bits(data.num_bits)
        if self.processes > module.members:
            why = f"{self.processes} processes need a member each"
            raise UserError("replicas", module.members, why, ["raise it", "lower `trainer.devices`"])
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, AtSteps):
                callback.require(module, self.trainer, data)
        if self.options.ckpt_path is not None:
            require_sequence_checkpoint(Path(self.options.ckpt_path), module, self.trainer, data)


class SwitchCheckpoint(Callback):
    """Write ``switch_<i>.ckpt`` before the i-th switch, counted from 0, after everything that is measured there.

    Another run goes on from it with ``--ckpt_path``, with other callbacks if wanted: an arm that shares its past.

    Args:
        directory: where the checkpoints are written.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write it, where this epoch ends at a switch."""
        switches = sequence_module(pl_module).switch_steps
        if trainer.global_step in switches:
            name = f"switch_{switches.index(trainer.global_step)}.ckpt"
            trainer.save_checkpoint(self.directory / name)


class SequenceProgress(Callback):
    """Say how far the training is, and how well its members predict.

    A bar over gradient steps on a terminal, else a line at each evaluation.
    """

    def __init__(self) -> None:
        self._bar: tqdm[Any] | None = None

    @rank_zero_only
    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        self._start, self._from = time.perf_counter(), trainer.global_step
        if sys.stderr.isatty():
            self._bar = tqdm(total=int(trainer.max_steps), initial=trainer.global_step, unit="step")

    @rank_zero_only
    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: SequenceBlock, batch_idx: int
    ) -> None:
        """Move the bar."""
        if self._bar is not None:
            self._bar.update(batch.stop - batch.start)

    @rank_zero_only
    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print the line, with the mean over members of what was logged last."""
        module, step, last = sequence_module(pl_module), trainer.global_step, int(trainer.max_steps)
        numbers = "  ".join(f"{name} {value:.4g}" for name, value in module.latest.items())
        if self._bar is not None:
            self._bar.set_postfix_str(numbers)
            return
        seconds = time.perf_counter() - self._start
        left = (last - step) * seconds / max(1, step - self._from) / 60
        print(f"step {step}/{last}  {numbers}  {seconds:.1f} s  {left:.1f} min left", flush=True)

    @rank_zero_only
    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()


def _finished(run: RunDir, max_steps: int) -> bool:
    """Whether the results of so many gradient steps are there."""
    summary = run.root / "summary.json"
    return summary.is_file() and read_json(summary, SequenceSummary)["sets"][-1]["evaluated_at_step"] == max_steps
