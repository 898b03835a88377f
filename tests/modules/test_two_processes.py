"""Every method in two processes: loss and gradient are those of one process with the global batch.

Encoders and heads here have no BatchNorm, whose statistics are each process's own where there is no SyncBatchNorm.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import distributed, nn

from memlight.batch import ViewBatch
from memlight.modules import DINO, MAE, Autoencoder, SimCLR, SimSiam, Supervised, VICReg
from memlight.modules.base import SSLModule
from tests.close import NETWORK
from tests.ddp import run_ddp
from tests.modules.tiny import TINY_VIT, share_of, view_batch

WIDTH = 64
"""Of what `TINY_VIT` returns."""


def linear(width: int) -> nn.Linear:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        return nn.Linear(WIDTH, width)


def autoencoder() -> tuple[SSLModule, ViewBatch]:
    return Autoencoder(image_size=16), view_batch(16, images=8)


def dino() -> tuple[SSLModule, ViewBatch]:
    module = DINO(TINY_VIT, hidden_dim=16, bottleneck_dim=8, output_dim=12)
    module.criterion.center.copy_(torch.linspace(-0.2, 0.2, 12))
    return module, view_batch(32, 32, 16, images=8)


def mae() -> tuple[SSLModule, ViewBatch]:
    return MAE(TINY_VIT, decoder_dim=16, decoder_depth=1, decoder_heads=2), view_batch(32, images=8)


def simclr() -> tuple[SSLModule, ViewBatch]:
    module = SimCLR(TINY_VIT, output_dim=8)
    module.head = linear(8)  # type: ignore[assignment]
    return module, view_batch(32, 32, images=8)


def simsiam() -> tuple[SSLModule, ViewBatch]:
    module = SimSiam(TINY_VIT, output_dim=WIDTH)
    module.head, module.predictor = linear(WIDTH), linear(WIDTH)  # type: ignore[assignment]
    return module, view_batch(32, 32, images=8)


def supervised() -> tuple[SSLModule, ViewBatch]:
    return Supervised(TINY_VIT, num_classes=3), view_batch(32, 32, images=8)


def vicreg() -> tuple[SSLModule, ViewBatch]:
    module = VICReg(TINY_VIT, hidden_dim=4, output_dim=4)
    module.head = linear(5)  # type: ignore[assignment]
    return module, view_batch(32, 32, images=8)


METHODS: dict[str, Callable[[], tuple[SSLModule, ViewBatch]]] = {
    method.__name__: method for method in (autoencoder, dino, mae, simclr, simsiam, supervised, vicreg)
}


def measured(module: SSLModule, batch: ViewBatch) -> dict[str, Any]:
    """Loss, gradients, and what the loss remembers (DINO's centre)."""
    loss, _ = module.embed_and_loss(batch)
    loss.backward()
    gradients = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
    memory = {name: buffer for name, buffer in module.named_buffers() if name == "criterion.center"}
    return {"loss": loss.detach(), "gradients": gradients, "memory": memory}


def of_this_process() -> dict[str, dict[str, Any]]:
    found = {}
    for name, make in METHODS.items():
        module, batch = make()
        found[name] = measured(module, share_of(batch, distributed.get_rank(), distributed.get_world_size()))
    return found


@pytest.fixture(scope="module")
def of_two() -> list[dict[str, dict[str, Any]]]:
    return run_ddp(of_this_process, 2)


@pytest.mark.ddp
@pytest.mark.parametrize("method", METHODS)
def test_two_processes_give_the_loss_and_the_gradient_of_the_global_batch(
    method: str, of_two: list[dict[str, dict[str, Any]]]
) -> None:
    module, batch = METHODS[method]()
    whole, ranks = measured(module, batch), [rank[method] for rank in of_two]
    assert whole["gradients"].keys() == ranks[0]["gradients"].keys() == ranks[1]["gradients"].keys()
    torch.testing.assert_close((ranks[0]["loss"] + ranks[1]["loss"]) / 2, whole["loss"], **NETWORK)
    rounding = NETWORK["atol"] * max(float(gradient.abs().max()) for gradient in whole["gradients"].values())
    for name, gradient in whole["gradients"].items():
        averaged = (ranks[0]["gradients"][name] + ranks[1]["gradients"][name]) / 2  # as DDP does
        torch.testing.assert_close(averaged, gradient, rtol=1e-3, atol=rounding)
        assert not torch.equal(ranks[0]["gradients"][name], ranks[1]["gradients"][name]), name
    assert bool(whole["memory"]) == (method == "dino")
    for name, buffer in whole["memory"].items():
        for rank in ranks:
            torch.testing.assert_close(rank["memory"][name], buffer, **NETWORK)
