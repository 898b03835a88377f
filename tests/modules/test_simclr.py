import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from memlight.batch import ViewBatch
from memlight.errors import UserError
from memlight.modules import SimCLR
from memlight.modules.base import embedding_std
from memlight.modules.optim import OptimConfig, build_optimizer, build_schedule, parameter_groups

GLOBAL_BATCH = 8


def nt_xent_by_loops(z_0: Tensor, z_1: Tensor, temperature: float) -> Tensor:
    """Equation 1 of Chen et al. (2020), one anchor and one term at a time."""
    z = [row / row.norm() for row in torch.cat([z_0, z_1])]
    n = len(z_0)
    total = torch.zeros((), dtype=z_0.dtype)
    for anchor in range(2 * n):
        positive = (anchor + n) % (2 * n)
        others = [torch.exp(z[anchor] @ z[other] / temperature) for other in range(2 * n) if other != anchor]
        total = total - torch.log(torch.exp(z[anchor] @ z[positive] / temperature) / sum(others))
    return total / (2 * n)


def embeddings() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    z_0, z_1 = torch.randn(2, GLOBAL_BATCH, 5, generator=generator, dtype=torch.float64)
    return z_0.requires_grad_(), z_1.requires_grad_()


def test_loss_is_nt_xent() -> None:
    z_0, z_1 = embeddings()
    module = SimCLR(temperature=0.3)
    assert torch.allclose(module.criterion(z_0, z_1), nt_xent_by_loops(z_0, z_1, 0.3), rtol=1e-9)


def test_both_members_start_from_the_same_weights_and_leave_the_global_generator_alone() -> None:
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = SimCLR(init_seed=5).state_dict()
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(2)
    second, other = SimCLR(init_seed=5).state_dict(), SimCLR(init_seed=6).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_views_of_one_size_and_views_of_two_sizes_give_the_same_features_in_eval_mode() -> None:
    module = SimCLR(channels_last=False).eval()
    views = [torch.rand(3, 3, 32, 32), torch.rand(3, 3, 32, 32)]
    together = module.encode(views)
    apart = module.encode([views[0], torch.rand(3, 3, 16, 16)])
    assert torch.allclose(together[0], apart[0], atol=1e-5)
    assert together[1].shape == apart[1].shape == (3, 256)


def test_loss_of_a_batch_reaches_every_parameter() -> None:
    module = SimCLR()
    batch = ViewBatch([torch.rand(4, 3, 32, 32), torch.rand(4, 3, 32, 32)], torch.zeros(4).long(), torch.arange(4))
    loss, z = module.embed_and_loss(batch)
    loss.backward()
    assert z.shape == (4, 128)
    assert all(parameter.grad is not None for parameter in module.parameters())


def test_embedding_std_is_one_for_isotropic_and_zero_for_collapsed() -> None:
    generator = torch.Generator().manual_seed(0)
    assert float(embedding_std(torch.randn(4000, 64, generator=generator))) == pytest.approx(1, abs=0.02)
    assert float(embedding_std(torch.ones(10, 64))) == pytest.approx(0, abs=1e-6)


def test_biases_and_norms_do_not_decay() -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Linear(4, 2))
    decay, no_decay = parameter_groups([model], 0.1)
    assert [tuple(p.shape) for p in decay["params"]] == [(4, 3, 3, 3), (2, 4)]  # type: ignore[attr-defined]
    assert [tuple(p.shape) for p in no_decay["params"]] == [(4,), (4,), (4,), (2,)]  # type: ignore[attr-defined]
    assert (decay["weight_decay"], no_decay["weight_decay"]) == (0.1, 0.0)


@pytest.mark.parametrize("name", ["lars", "sgd", "adamw"])
@pytest.mark.parametrize(("lr_end", "end"), [(None, 0.001), (0.0, 0.0), (0.25, 0.25)])
def test_learning_rate_scales_with_the_global_batch_and_follows_the_cosine(
    name: str, lr_end: float | None, end: float
) -> None:
    config = OptimConfig(name=name, lr=0.5, lr_batch_size=256)  # type: ignore[arg-type]
    optimizer = build_optimizer(config, [torch.nn.Linear(2, 2)], global_batch_size=512)
    schedule = build_schedule(optimizer, total_steps=100, warmup_steps=10, lr_end=lr_end)
    rates = []
    for _ in range(100):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    for step in range(10):
        assert rates[step] == pytest.approx((step + 1) / 10)
    for step in range(10, 100):
        assert rates[step] == pytest.approx(end + (1 - end) * (1 + math.cos(math.pi * (step - 10) / 89)) / 2, abs=1e-12)
    assert rates[-1] == pytest.approx(end, abs=1e-15)


def test_a_training_has_the_end_and_the_betas_of_its_configuration() -> None:
    trainer = SimpleNamespace(estimated_stepping_batches=41, max_epochs=41, datamodule=None, accumulate_grad_batches=1)
    optim = OptimConfig("adamw", lr=1.0, warmup_epochs=8, lr_batch_size=0, lr_end=0.25, betas=(0.5, 0.6))
    module = SimCLR(optim=optim)
    module._trainer = trainer  # type: ignore[assignment]
    configured: Any = module.configure_optimizers()
    schedule = configured["lr_scheduler"]["scheduler"]
    assert [schedule.scale_lr(step) for step in (7, 8, 24, 40)] == pytest.approx([1, 1, 0.625, 0.25])
    assert all(group["betas"] == (0.5, 0.6) for group in configured["optimizer"].param_groups)
    plain = build_optimizer(OptimConfig("adamw"), [torch.nn.Linear(2, 2)], 16)
    assert all(group["betas"] == (0.9, 0.999) for group in plain.param_groups)


def test_a_learning_rate_of_zero_is_refused() -> None:
    with pytest.raises(UserError, match=r"^lr="):
        OptimConfig(lr=0)


@pytest.mark.parametrize(
    ("name", "value"), [("lr_end", -0.1), ("lr_end", 1.1), ("betas", (0.9, 1.0)), ("betas", (-0.1, 0.9))]
)
def test_bad_ends_and_betas_are_refused(name: str, value: Any) -> None:
    with pytest.raises(UserError, match=rf"^{name}="):
        OptimConfig(**{name: value})
