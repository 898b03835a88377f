"""Trainings that start from given weights: both members alike, stated, gone on with, and never mixed with others."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from memlight.analyses.unit.objectives import load_method
from memlight.cli import main
from memlight.models.encoders import build_encoder, load_encoder, read_metadata
from memlight.modules import DINO, MAE, SimCLR
from memlight.report.page import write_report
from memlight.storage.rundir import RunDir
from memlight.storage.tables import read_table
from tests.models.foreign_files import spread
from tests.test_bad_input import only_line
from tests.tiny_pair import checkpoint, fit, fit_flags, same_tensors


@pytest.fixture
def given(tmp_path: Path) -> Path:
    """Weights of a ResNet9, as another program has them."""
    torch.save({"net": spread(build_encoder("resnet9")).state_dict()}, tmp_path / "given.pth")
    return tmp_path / "given.pth"


def assert_starts_from(module: Any, path: Path) -> None:
    state = torch.load(path)["net"]
    for network in module.networks.values():
        assert network.training or not network.requires_grad_
        for name, tensor in network.state_dict().items():
            assert torch.equal(tensor, state[name]), name


def test_every_network_starts_from_the_file_and_heads_do_not(given: Path) -> None:
    plain, started = SimCLR(), SimCLR(init_from=str(given))
    assert_starts_from(started, given)
    assert started.training and all(module.training for module in started.encoder.modules())
    assert same_tensors(started.head.state_dict(), plain.head.state_dict())
    assert plain.started_from is None
    assert started.started_from is not None and started.started_from["file"] == "given.pth"
    dino = DINO("resnet9", init_from=str(given), init_prefix="net", output_dim=8)
    assert_starts_from(dino, given)


def test_positions_are_resampled_to_the_views(tmp_path: Path) -> None:
    torch.save(spread(build_encoder("vit_tiny_patch4", image_size=32)).state_dict(), tmp_path / "vit.pth")
    module = MAE(image_size=16, init_from=str(tmp_path / "vit.pth"))
    assert module.started_from is not None and "resampled from 8x8 to 4x4" in module.started_from["words"]


def test_a_pair_states_where_it_started_and_goes_on_bit_for_bit(
    given: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start, run = f"--model.init_from={given}", tmp_path / "run"
    short = "--trainer.max_epochs=2"
    assert fit(run, start, short, "--keep_every=1") == 0
    assert "encoder: starts from given.pth: 48 tensors from net" in capsys.readouterr().out
    member = RunDir(run).member("candidate")
    recorded = read_metadata(member.encoder)["init_from"]
    assert recorded["file"] == "given.pth" and recorded["prefix"] == "net" and len(recorded["weights_sha256"]) == 64
    assert f"init_from: {given}" in RunDir(run).config.read_text()

    # a kill after the first epoch
    again = tmp_path / "again"
    shutil.copytree(run, again)
    other = RunDir(again).member("candidate")
    other.encoder.unlink()
    shutil.copy(other.checkpoints / "epoch=0.ckpt", other.checkpoints / "last.ckpt")
    assert fit(again, start, short, "--keep_every=1", "--resume=true") == 0
    assert same_tensors(checkpoint(again)["state_dict"], checkpoint(run)["state_dict"])
    assert same_tensors(load_encoder(other.encoder).state_dict(), load_encoder(member.encoder).state_dict())
    assert len(read_table(other.metrics)["epoch"])

    # whoever goes on from the finished weights does not need the file
    given.rename(tmp_path / "away.pth")
    assert fit(run, start, short, "--keep_every=1", "--resume=true") == 0
    assert "is finished; nothing to train" in capsys.readouterr().out
    method = load_method(RunDir(run), "candidate")
    assert same_tensors(method.encoder.state_dict(), load_encoder(member.encoder).state_dict())
    (tmp_path / "away.pth").rename(given)

    # the second member is trained from the same weights, or not at all
    capsys.readouterr()
    assert fit(run, short, "--keep_every=1", role="independent") == 2
    assert "was trained with another configuration (model.init_from" in only_line(capsys)
    torch.save({"net": spread(build_encoder("resnet9"), seed=5).state_dict()}, given)
    assert fit(run, start, short, "--keep_every=1", role="independent") == 2
    line = only_line(capsys)
    assert line.startswith("--run: candidate/ started from the weights of given.pth") and "file of then" in line
    assert not RunDir(run).member("independent").checkpoints.exists()
    assert "Every encoder started from the weights of given.pth" in write_report(RunDir(run)).read_text()


def test_a_checkpoint_is_not_gone_on_with_from_other_initial_weights(
    given: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], plain_pair: Any
) -> None:
    path = RunDir(plain_pair.root).member("candidate").checkpoints / "last.ckpt"
    flags = ["--trainer.max_epochs=5", f"--ckpt_path={path}", f"--model.init_from={given}"]
    assert fit(tmp_path / "run", *flags) == 2
    line = only_line(capsys)
    assert line.startswith("--ckpt_path: ") and "started from random weights" in line
    assert "leave --model.init_from out" in line
    assert not (tmp_path / "run" / "config.yaml").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--model.init_from={}/none.pth"], "--model.init_from {}/none.pth: no such file"),
        (["--model.init_from={}/given.pth", "--model.encoder=resnet18"], "none of its tensors is named as in resnet18"),
        (["--model.init_from={}/given.pth", "--model.init_prefix=x"], "--model.init_prefix x: no part of that name"),
        (["--model.init_prefix=x"], "name the file with --model.init_from"),
        (["--model.init_from=hub"], "nobody has published weights under the name resnet9"),
    ],
)
def test_weights_that_do_not_fit_are_refused_before_anything_is_written(
    flags: list[str], words: str, given: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(fit_flags(tmp_path / "run", *(flag.format(tmp_path) for flag in flags))) == 2
    assert words.format(tmp_path) in only_line(capsys)
    assert not (tmp_path / "run" / "config.yaml").exists()
