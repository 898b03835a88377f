"""Batches of a few random views, and what every training method has to satisfy."""

from collections.abc import Callable

import torch

from memlight.batch import ViewBatch
from memlight.modules.base import SSLModule

TINY_VIT = "timm:test_vit"
"""Six blocks of width 64 and no BatchNorm; 16-pixel patches, so 32-pixel views have four."""


def view_batch(*sizes: int, images: int = 4) -> ViewBatch:
    """One view of every size, of images with ids 0, 1, ... and labels 0, 1, 2, 0 ..., in epoch 0."""
    generator = torch.Generator().manual_seed(3)
    views = [torch.rand(images, 3, size, size, generator=generator) for size in sizes]
    ids = torch.arange(images)
    return ViewBatch(views, ids % 3, ids, torch.zeros_like(ids))


def share_of(batch: ViewBatch, rank: int, world_size: int) -> ViewBatch:
    """What one of several processes gets of a global batch."""
    local = len(batch.ids) // world_size
    mine = slice(rank * local, (rank + 1) * local)
    assert batch.epochs is not None
    return ViewBatch([view[mine] for view in batch.views], batch.labels[mine], batch.ids[mine], batch.epochs[mine])


def assert_gradients_reach_exactly(module: SSLModule, batch: ViewBatch) -> None:
    """A gradient reaches every parameter that is trained, is not 0 in any matrix, and reaches no other parameter."""
    module.embed_and_loss(batch)[0].backward()
    trained = {parameter for root in module.trained_modules() for parameter in root.parameters()}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            assert parameter in trained, name
            assert parameter.grad is not None, name
            assert parameter.ndim < 2 or parameter.grad.abs().sum() > 0, name
        else:
            assert parameter.grad is None, name


def assert_starts_from_its_seed(make: Callable[[int], SSLModule]) -> None:
    """Both members of a pair begin alike, whatever the global generator says, and leave it alone."""
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = make(5).state_dict()
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(2)
    second, other = make(5).state_dict(), make(6).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    parts = {name.split(".")[0] for name in first}
    for part in parts - {"criterion"}:
        assert any(not torch.equal(first[name], other[name]) for name in first if name.startswith(f"{part}.")), part
