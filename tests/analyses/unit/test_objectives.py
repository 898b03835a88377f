"""The method behind a member comes back whole: encoder, heads and statistics, as the last checkpoint has them."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from memlight.analyses.unit.objectives import load_method, method_of
from memlight.errors import UserError
from memlight.modules import DINO, SimCLR
from memlight.runs.opened import OpenedRun
from memlight.storage.rundir import RunDir
from tests.tiny_pair import TinyPair, checkpoint, same_tensors

TINY_DINO = {
    "encoder": "timm:test_vit",
    "image_size": 16,
    "hidden_dim": 8,
    "bottleneck_dim": 4,
    "output_dim": 8,
    "teacher_temperature_start": 0.02,
    "teacher_temperature_epochs": 5,
}


def opened(run: RunDir, network: str | None = None) -> OpenedRun:
    return cast("OpenedRun", SimpleNamespace(run=run, network=network))


def dino_run(root: Path) -> RunDir:
    """A run of which nothing is there but the configuration and the last checkpoint."""
    run = RunDir(root)
    method = DINO(**cast("dict[str, Any]", TINY_DINO))
    run.member("candidate").checkpoints.mkdir(parents=True)
    torch.save({"state_dict": method.state_dict()}, run.member("candidate").checkpoints / "last.ckpt")
    lines = [f"    {name}: {value}" for name, value in TINY_DINO.items()]
    run.config.write_text("\n".join(["model:", "  class_path: memlight.modules.DINO", "  init_args:", *lines]))
    return run


def test_every_tensor_is_the_checkpoint_s(plain_pair: TinyPair) -> None:
    method = load_method(RunDir(plain_pair.root), "independent")
    assert isinstance(method, SimCLR) and not any(module.training for module in method.modules())
    assert same_tensors(dict(method.state_dict()), dict(checkpoint(plain_pair.root, role="independent")["state_dict"]))
    assert any(name.startswith("head.") for name in method.state_dict())
    assert (method.optim.warmup_epochs, method.optim.lr_batch_size) == (1, 16)


def test_the_finished_encoder_must_be_the_checkpoint_s(plain_pair: TinyPair) -> None:
    run = RunDir(plain_pair.root)
    encoder = load_method(run, "candidate").encoder
    assert method_of(opened(run), "candidate", encoder).encoder is not encoder
    with torch.no_grad():
        encoder.get_parameter("layer1.conv.weight")[0, 0, 0, 0] += 1
    with pytest.raises(UserError, match=r"last.ckpt holds other weights than the finished encoder"):
        method_of(opened(run), "candidate", encoder)


def test_dino_s_loss_trains_the_student_at_its_last_temperature(tmp_path: Path) -> None:
    run = dino_run(tmp_path)
    method = load_method(run, "candidate")
    assert isinstance(method, DINO) and method.teacher_temperature_epochs == 0
    with pytest.raises(UserError, match="network='teacher': the loss of DINO trains the student; choose `network="):
        method_of(opened(run), "candidate", method.teacher)
    assert isinstance(method_of(opened(run, "student"), "candidate", method.encoder), DINO)


def test_what_is_missing_or_does_not_fit_is_said(tmp_path: Path) -> None:
    run = dino_run(tmp_path)
    with pytest.raises(UserError, match=r"no independent/checkpoints/last.ckpt"):
        load_method(run, "independent")
    text = run.config.read_text()
    for old, new, words in (
        ("output_dim: 8", "output_dim: 9", "last.ckpt is not of config.yaml"),
        ("output_dim", "outputs", "names no method that can be built"),
        ("memlight.modules.DINO", "memlight.modules.optim.OptimConfig", "is not a training method"),
        ("memlight.modules.DINO", "nowhere", "names no method that can be built"),
    ):
        run.config.write_text(text.replace(old, new))
        with pytest.raises(UserError, match=words):
            load_method(run, "candidate")
