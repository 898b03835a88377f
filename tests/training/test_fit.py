"""Training end to end: what it leaves, how it goes on after a kill, what it refuses."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.trainer.connectors.logger_connector.logger_connector import _LoggerConnector
from torch import Tensor, distributed

from memlight.batch import ViewBatch
from memlight.cli import main
from memlight.data.images import ImageDataModule
from memlight.data.splits import PairSplit
from memlight.features.discovery import list_layers
from memlight.models.encoders import load_encoder, read_metadata
from memlight.modules import SimCLR
from memlight.runs.checkpoints import encoder_from_checkpoint, initial_encoder
from memlight.storage.rundir import RunDir
from memlight.storage.tables import read_table
from memlight.training.fit import checkpoint_callbacks
from tests.close import PIXELS
from tests.ddp import run_ddp
from tests.tiny_pair import (
    EPOCHS,
    KEPT,
    ROLES,
    ROOT,
    UNITMEM_TABLES,
    TinyPair,
    analyze,
    assert_same_tables,
    callback_flags,
    checkpoint,
    encoder_state,
    environment,
    fit,
    fit_flags,
    same_tensors,
)


def files(directory: Path) -> dict[str, tuple[int, int]]:
    """Every file below a directory with its size and when it was written."""
    found = (path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): (path.stat().st_size, path.stat().st_mtime_ns) for path in found}


# What a training leaves


def test_a_run_directory_holds_both_members_and_every_second_checkpoint(plain_pair: TinyPair) -> None:
    member = {"encoder.safetensors", "metrics.csv", "checkpoints/last.ckpt", f"checkpoints/{KEPT}.ckpt"}
    expected = {f"{role}/{file}" for role in ROLES for file in member} | {"config.yaml", "images.csv", "splits.json"}
    assert set(files(plain_pair.root)) == expected


def test_no_checkpoints_on_the_way_are_kept_when_none_are_asked_for(tmp_path: Path) -> None:
    assert [callback.filename for callback in checkpoint_callbacks(tmp_path, 0)] == ["last"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("role", ROLES)
def test_the_exported_encoder_is_the_last_checkpoints(plain_pair: TinyPair, role: str) -> None:
    saved = checkpoint(plain_pair.root, role=role)["state_dict"]
    exported = encoder_state(plain_pair.root, role)
    assert {f"encoder.{name}" for name in exported} == {name for name in saved if name.startswith("encoder.")}
    assert all(torch.equal(saved[f"encoder.{name}"], tensor) for name, tensor in exported.items())
    path = RunDir(plain_pair.root).member(role).checkpoints / "last.ckpt"
    assert same_tensors(dict(encoder_from_checkpoint(path).state_dict()), exported)


def test_members_differ_once_trained_and_from_where_they_began(plain_pair: TinyPair) -> None:
    f, g = (encoder_state(plain_pair.root, role) for role in ROLES)
    start = initial_encoder(read_metadata(RunDir(plain_pair.root).member("candidate").encoder)).state_dict()
    for name, weights in start.items():
        if name.endswith("weight"):
            assert not torch.equal(f[name], g[name])
            assert not torch.equal(f[name], weights)


@pytest.mark.parametrize("role", ROLES)
def test_metadata_say_what_the_encoder_is(plain_pair: TinyPair, role: str) -> None:
    run = RunDir(plain_pair.root)
    metadata = read_metadata(run.member(role).encoder)
    data = metadata.pop("data")
    views = metadata.pop("views")
    encoder = load_encoder(run.member(role).encoder)
    assert metadata.pop("layers") == list_layers(encoder)
    assert metadata.pop("architecture")["name"] == "resnet9"
    assert metadata.pop("dataset").startswith("digits ")
    assert metadata == {
        "format": 1,
        "method": "simclr",
        "network": "encoder",
        "init_seed": 0,
        "role": role,
        "split_sha256": PairSplit.load(run.splits).sha256,
        "epochs": EPOCHS,
    }
    assert views["name"] == data["views"] == "simclr"
    assert data["role"] == role
    again = ImageDataModule(**data)  # and the images can be found again from them
    again.setup()
    assert again.split.sha256 == PairSplit.load(run.splits).sha256
    assert again.views.spec() == views
    kept = json.loads(json.dumps(checkpoint(plain_pair.root, KEPT, role)["memlight"]))
    assert kept == {**read_metadata(run.member(role).encoder), "epochs": 2, "prefixes": {"encoder": "encoder."}}


def test_metrics_have_a_row_per_step_with_losses_at_the_ends_of_epochs(plain_pair: TinyPair) -> None:
    table = read_table(RunDir(plain_pair.root).member("candidate").metrics)
    steps = EPOCHS * (64 // 16)
    assert table["step"].tolist() == list(range(steps))
    logged = [step for step, loss in enumerate(table["train/loss"]) if loss == loss]
    assert logged == [3, 7, 11]
    assert table["train/loss"][logged][-1] < table["train/loss"][logged][0]
    assert table["lr-SGD/pg1"].argmax() == 3  # the end of the epoch of warm-up


def test_validate_gives_the_loss_that_training_logged(plain_pair: TinyPair, capsys: pytest.CaptureFixture[str]) -> None:
    path = RunDir(plain_pair.root).member("candidate").checkpoints / f"{KEPT}.ckpt"
    before = files(plain_pair.root)
    flags = [flag for flag in fit_flags(plain_pair.root)[1:] if not flag.startswith("--trainer.max_epochs")]
    assert main(["validate", *flags, f"--ckpt_path={path}"]) == 0
    assert files(plain_pair.root) == before
    logged = read_table(RunDir(plain_pair.root).member("candidate").metrics)["val/loss"][7]
    (printed,) = re.findall(r"val/loss\W+(\d+\.\d+)", capsys.readouterr().out)
    assert float(printed) == pytest.approx(logged, rel=1e-6)


def test_weights_and_images_have_seeds_of_their_own_that_follow_the_global_one(tmp_path: Path) -> None:
    def begun(name: str, *flags: str, role: str = "candidate") -> tuple[Any, PairSplit, dict[str, Any]]:
        record = callback_flags("tests.tiny_pair.Record", directory=tmp_path / name)
        once = ["--trainer.max_epochs=1", "--data.num_external=0", *flags]
        assert fit(tmp_path / "runs" / name, *once, *record, role=role) == 0
        run = RunDir(tmp_path / "runs" / name)
        return torch.load(tmp_path / name / "0.pt"), PairSplit.load(run.splits), read_metadata(run.member(role).encoder)

    zero, split, _ = begun("zero", "--seed_everything=0")
    one, other_split, metadata = begun("one", "--seed_everything=1")
    assert {"encoder.layer1.conv.weight", "head.layers.0.weight"} & zero["initial"].keys()
    assert not same_tensors(zero["initial"], one["initial"])
    assert (metadata["init_seed"], metadata["data"]["seed"]) == (1, 1)
    assert split.sha256 != other_split.sha256
    own = ["--seed_everything=1", "--model.init_seed=0", "--data.seed=0"]
    partner, same_split, _ = begun("partner", *own, role="independent")
    assert same_tensors(zero["initial"], partner["initial"])
    assert split.sha256 == same_split.sha256


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
def test_half_precision_trains_and_is_observed(tmp_path: Path, precision: str) -> None:
    observe = callback_flags("memlight.callbacks.UnitMemCallback", every_n_epochs=1, num_views=1, layers="[layer8]")
    few = [f"--data.{name}=4" for name in ("num_shared", "num_candidate", "num_independent", "batch_size")]
    flags = [f"--trainer.precision={precision}", "--trainer.max_epochs=1", "--keep_every=1", "--data.num_external=0"]
    assert fit(tmp_path / "run", *flags, *few, *observe) == 0
    during = RunDir(tmp_path / "run").analysis("unitmem", "epoch=0")
    assert analyze(tmp_path / "run", "unitmem", "--no-pair", "--views=1", "--layers=layer8", "--tag=after") == 0
    without_held_out = [name for name in UNITMEM_TABLES if name != "held_out"]
    assert_same_tables(during, RunDir(tmp_path / "run").analysis("unitmem", "after"), without_held_out)


# Going on


def assert_same_member(run: Path, other: Path, role: str) -> None:
    """Weights, optimizer, metrics and the exported file are the same bits."""
    assert same_tensors(encoder_state(run, role), encoder_state(other, role))
    ours, theirs = checkpoint(run, role=role), checkpoint(other, role=role)
    for part in ("state_dict", "optimizer_states", "lr_schedulers", "epoch", "global_step", "memlight"):
        assert same_tensors(ours[part], theirs[part]), part
    one, two = RunDir(run).member(role), RunDir(other).member(role)
    assert one.metrics.read_bytes() == two.metrics.read_bytes()
    assert one.encoder.read_bytes() == two.encoder.read_bytes()


def killed_in_the_third_epoch(run: str) -> None:
    """The process ends, as in a power cut."""
    fit(Path(run), *callback_flags("tests.tiny_pair.KillAt", epoch=2, batch=2))


@pytest.mark.ddp
def test_a_member_that_was_killed_goes_on_and_equals_the_one_that_was_not(plain_pair: TinyPair, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(RuntimeError, match="rank 0 ended without an answer"):
        run_ddp(killed_in_the_third_epoch, 1, str(run))
    assert not RunDir(run).member("candidate").encoder.exists()
    assert checkpoint(run)["epoch"] == 1
    assert fit(run, "--resume=true") == 0
    assert_same_member(run, plain_pair.root, "candidate")


@pytest.mark.slow
def test_a_pair_that_was_killed_goes_on_and_equals_the_one_that_was_not(plain_pair: TinyPair, tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = [sys.executable, str(ROOT / "train.py"), "pair", *fit_flags(run)[1:-1]]
    kill = callback_flags("tests.tiny_pair.KillAt", epoch=2, batch=2)
    killed = subprocess.run([*command, *kill], env=environment(), cwd=tmp_path, capture_output=True, check=False)
    assert killed.returncode != 0
    assert not (run / "independent").exists()
    assert not RunDir(run).member("candidate").encoder.exists()
    assert checkpoint(run)["epoch"] == 1
    again = [*command, "--parallel"]  # the candidate goes on while the independent member begins
    resumed = subprocess.run(again, env=environment(), cwd=tmp_path, capture_output=True, text=True, check=False)
    assert resumed.returncode == 0, resumed.stderr
    for role in ROLES:
        assert_same_member(run, plain_pair.root, role)


@pytest.mark.parametrize("moment", ["before the checkpoints", "after them"])
def test_a_kill_beside_the_checkpoint_of_an_epoch_loses_no_row(
    plain_pair: TinyPair, tmp_path: Path, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning logs an epoch's losses after its checkpoints: killed in between, they were in no file."""
    run = tmp_path / "run"
    where, name = {
        "before the checkpoints": (ModelCheckpoint, "_save_checkpoint"),
        "after them": (_LoggerConnector, "update_train_epoch_metrics"),
    }[moment]
    original = getattr(where, name)

    def killed(self: Any, *args: Any) -> Any:
        trainer = args[0] if args else self.trainer
        if trainer.current_epoch == 1:
            raise Killed
        return original(self, *args)

    with monkeypatch.context() as power_cut:
        power_cut.setattr(where, name, killed)
        with pytest.raises(Killed):
            fit(run)
    assert fit(run, "--resume=true") == 0
    ours, theirs = (RunDir(root).member("candidate") for root in (run, plain_pair.root))
    assert ours.metrics.read_bytes() == theirs.metrics.read_bytes()
    assert ours.encoder.read_bytes() == theirs.encoder.read_bytes()


class Killed(BaseException):
    """The end of the process, which nothing handles."""


def test_a_finished_member_is_left_alone(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files(run)
    assert fit(run, "--resume=true") == 0
    assert files(run) == before
    assert "candidate is finished" in capsys.readouterr().out


def test_a_member_killed_before_its_encoder_was_written_gets_it(plain_pair: TinyPair, run: Path) -> None:
    encoder = RunDir(run).member("candidate").encoder
    encoder.unlink()
    before = files(run / "candidate" / "checkpoints")
    assert fit(run, "--resume=true") == 0
    assert encoder.read_bytes() == RunDir(plain_pair.root).member("candidate").encoder.read_bytes()
    assert files(run / "candidate" / "checkpoints") == before


def test_a_checkpoint_written_before_a_kill_is_written_again(plain_pair: TinyPair, run: Path) -> None:
    """Between ``epoch=1.ckpt`` and ``last.ckpt``: the epoch is trained again, and there is one checkpoint of it."""
    checkpoints = run / "candidate" / "checkpoints"
    RunDir(run).member("candidate").encoder.unlink()
    (checkpoints / "last.ckpt").unlink()
    assert fit(run, "--resume=true") == 0
    assert sorted(path.name for path in checkpoints.iterdir()) == [f"{KEPT}.ckpt", "last.ckpt"]
    assert same_tensors(encoder_state(run), encoder_state(plain_pair.root))
    order = [callback.filename for callback in checkpoint_callbacks(checkpoints, 2)]  # type: ignore[attr-defined]
    assert order == ["{epoch}", "last"]


@pytest.mark.parametrize(
    "flags",
    [
        ["--model.optim.lr=0.1"],
        ["--model.encoder=resnet18"],
        ["--data.repeat=2"],
        ["--data.mean=[0.1,0.2,0.3]"],
        [f"--trainer.max_epochs={EPOCHS + 1}"],
        ["--trainer.precision=bf16-mixed"],
        ["--seed_everything=1"],
    ],
    ids=lambda flags: flags[0].split("=")[0],
)
@pytest.mark.parametrize("partner_only", [False, True])
def test_another_configuration_is_refused_by_a_member_and_by_its_partner(
    run: Path, flags: list[str], partner_only: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    if partner_only:
        shutil.rmtree(run / "independent")
    before = files(run)
    assert fit(run, *flags, "--resume=true", role="independent") == 2
    assert files(run) == before
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: --run {run}: was trained with another configuration")
    assert flags[0].split("=")[0].lstrip("-").split(".")[-1] in line


def test_a_run_older_than_an_option_goes_on(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = run / "config.yaml"
    lines = config.read_text().splitlines(keepends=True)
    older = [line for line in lines if "split_seed: null" not in line]
    assert len(older) == len(lines) - 1
    config.write_text("".join(older))
    assert fit(run, "--resume=true", role="independent") == 0
    assert "is finished; nothing to train" in capsys.readouterr().out
    assert fit(run, "--resume=true", "--data.split_seed=7", role="independent") == 2
    assert "data.split_seed: None, now 7" in capsys.readouterr().err


def test_what_does_not_change_the_result_may_differ(run: Path) -> None:
    shutil.rmtree(run / "independent")
    allowed = ["--data.num_workers=1", "--data.memory_limit_gb=2", "--keep_every=1", "--trainer.log_every_n_steps=2"]
    assert fit(run, *allowed, "--trainer.fast_dev_run=1", role="independent") == 0


def test_a_trained_member_is_not_overwritten_by_accident(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files(run)
    assert fit(run) == 2
    assert files(run) == before
    assert f"--run {run}: candidate/ already holds checkpoints; continue with --resume true" in capsys.readouterr().err


@pytest.mark.parametrize(("flag", "named"), [("--data.role=all", "--data.role"), ("--ckpt_path=x", "--ckpt_path")])
def test_pair_refuses_flags_of_one_member(
    flag: str, named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pair", *fit_flags(tmp_path / "run")[1:-1], flag]) == 2
    assert capsys.readouterr().err.startswith(f"error: {named}:")
    assert not (tmp_path / "run").exists()


# Alarms


def test_a_loss_that_is_not_a_number_ends_the_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(tmp_path / "run", "--model.optim.lr=1e20") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: --model.optim.lr 1e+20: train/loss is nan at epoch 0")
    member = RunDir(tmp_path / "run").member("candidate")
    assert not member.encoder.exists()
    assert not list(member.checkpoints.glob("*"))
    lower = ["--model.optim.lr=0.01", "--trainer.max_epochs=1"]  # the failed attempt does not hold its directory
    assert fit(tmp_path / "run", *lower) == 0


@pytest.mark.parametrize(
    ("batch_size", "external", "words"),
    [(16, 15, "train/loss is nan"), (64, 15, "val/loss is nan"), (64, 0, "the weights are no longer finite")],
)
def test_what_breaks_in_a_later_epoch_leaves_the_checkpoints_of_earlier_ones(
    tmp_path: Path, batch_size: int, external: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Poisoned weights show in the next step's loss, in the validation after the last step, or nowhere but in them."""
    poison = callback_flags("tests.training.test_fit.Poison", epoch=1)
    sizes = [f"--data.batch_size={batch_size}", f"--data.num_external={external}", "--keep_every=1"]
    assert fit(tmp_path / "run", *sizes, *poison) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"error: --model.optim.lr 0.06: {words} at epoch 1")
    member = RunDir(tmp_path / "run").member("candidate")
    assert not member.encoder.exists()
    assert sorted(path.name for path in member.checkpoints.iterdir()) == ["epoch=0.ckpt", "last.ckpt"]
    for name in ("epoch=0", "last"):
        content = checkpoint(tmp_path / "run", name)
        assert content["epoch"] == 0
        assert all(tensor.isfinite().all() for tensor in content["state_dict"].values())


class Poison(L.Callback):
    """A step of one epoch overflows: the first one."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.current_epoch == self.epoch:
            pl_module.encoder.layer1.conv.weight.data[0] = torch.nan


class Collapsed(SimCLR):
    """Its embeddings are all but equal."""

    def embed_and_loss(self, batch: ViewBatch) -> tuple[Tensor, Tensor]:
        loss, z_ND = super().embed_and_loss(batch)
        return loss, torch.ones_like(z_ND) + 1e-3 * z_ND


def test_collapse_is_a_warning_with_its_number(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"collapsed: their spread is 0\.0\d+ .* \(optim\.lr\)"):
        assert fit(tmp_path / "run", "--model=tests.training.test_fit.Collapsed", "--trainer.max_epochs=1") == 0


def test_a_training_that_goes_well_does_not_warn(plain_pair: TinyPair) -> None:
    """Warnings are errors in this suite, so the pair would not exist."""
    assert json.loads(RunDir(plain_pair.root).splits.read_text())


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--model.encoder=resnet99"], "--model.encoder"),
        (["--model.optim.lr=0"], "--model.optim.lr"),
        (callback_flags("memlight.callbacks.LayerMemCallback", num_views=1), "--trainer.callbacks.num_views"),
        (callback_flags("memlight.callbacks.UnitMemCallback", layers="[layer9]"), "--"),
        (["--data.num_shared=100000"], "--data.num_shared"),
        (["--data.dataset=folder", "--data.root=nowhere"], "--data.root"),
        (["--data.views=nice"], "--data.views"),
        (["--trainer.accelerator=gpu", "--trainer.devices=99"], "--trainer"),
        (["--data.batch_size=100"], "--data.batch_size"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_mistakes_are_one_line_before_anything_is_trained(
    tmp_path: Path, flags: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(tmp_path / "run", *flags) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if "error" in line.lower()]
    assert len(error) == 1
    assert error[0].startswith(f"error: {named}")
    assert not list(tmp_path.rglob("*.ckpt"))


# Two processes


def launched(flags: list[str], folder: Path) -> None:
    """By Lightning, which starts the second process."""
    command = [sys.executable, str(ROOT / "train.py"), *flags]
    done = subprocess.run(command, env=environment(), cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def as_rank(flags: list[str]) -> int:
    """In a process that somebody else started."""
    os.environ["LOCAL_RANK"] = str(distributed.get_rank())
    return main(flags)


def forked(flags: list[str], folder: Path) -> None:
    """By the fork server of these tests."""
    assert run_ddp(as_rank, 2, flags) == [0, 0]


@pytest.mark.ddp
@pytest.mark.parametrize("started", [forked, pytest.param(launched, marks=pytest.mark.slow)])
def test_two_processes_train_on_the_splits_and_the_views_of_one(
    started: Callable[[list[str], Path], None], tmp_path: Path
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    record = "tests.tiny_pair.Record"
    epochs = 2
    only = f"--trainer.max_epochs={epochs}"
    assert fit(one, only, *callback_flags(record, directory=tmp_path / "seen-by-one")) == 0
    observe = callback_flags("UnitMemCallback", every_n_epochs=2, num_views=3, layers="[layer8]")
    ddp = ["--trainer.devices=2", "--trainer.strategy=ddp"]
    started(fit_flags(two, only, *ddp, *observe, *callback_flags(record, directory=tmp_path / "seen-by-two")), tmp_path)
    assert RunDir(two).splits.read_bytes() == RunDir(one).splits.read_bytes()

    alone = torch.load(tmp_path / "seen-by-one" / "0.pt")
    ranks = [torch.load(tmp_path / "seen-by-two" / f"{rank}.pt") for rank in range(2)]
    assert same_tensors(ranks[0]["initial"], alone["initial"])
    assert len(alone["steps"]) == len(ranks[0]["steps"]) == len(ranks[1]["steps"]) == epochs * 4
    for whole, *parts in zip(alone["steps"], *(rank["steps"] for rank in ranks), strict=True):
        assert torch.equal(torch.cat([part["ids"] for part in parts]), whole["ids"])
        for view in range(2):
            together = torch.cat([part["views"][view] for part in parts])
            torch.testing.assert_close(together, whole["views"][view], **PIXELS)
    parameters = {name for name, tensor in alone["final"].items() if "running" not in name and tensor.ndim}
    for name in parameters:  # batch statistics are each process's own: there is no SyncBatchNorm on CPUs
        assert torch.equal(ranks[0]["final"][name], ranks[1]["final"][name])
    assert read_table(RunDir(two).member("candidate").metrics)["step"].tolist() == list(range(epochs * 4))

    assert analyze(two, "unitmem", "--no-pair", f"--checkpoint={KEPT}", "--layers=layer8", "--tag=one-process") == 0
    during, after = (RunDir(two).analysis("unitmem", tag) for tag in (KEPT, "one-process"))
    assert_same_tables(during, after, UNITMEM_TABLES)
