import math

import pytest
import torch
from torch import Tensor

from memlight.errors import UserError
from memlight.modules import VICReg
from tests.modules.tiny import assert_gradients_reach_exactly, assert_starts_from_its_seed, view_batch

DIM = 5


def small(init_seed: int = 0, weights: tuple[float, float, float] = (25, 25, 1)) -> VICReg:
    return VICReg(
        image_size=16,
        init_seed=init_seed,
        invariance=weights[0],
        variance=weights[1],
        covariance=weights[2],
        hidden_dim=12,
        output_dim=DIM,
    )


def invariance_by_loops(z_0: Tensor, z_1: Tensor) -> float:
    """Equation 5 of Bardes et al. (2022), over the dimensions, as their code has it."""
    total = 0.0
    for a, b in zip(z_0.tolist(), z_1.tolist(), strict=True):
        total += sum((a_j - b_j) ** 2 for a_j, b_j in zip(a, b, strict=True)) / len(a)
    return total / len(z_0)


def covariance_of(z: Tensor, i: int, j: int) -> float:
    """Equation 3, one entry."""
    a, b = z[:, i].tolist(), z[:, j].tolist()
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    return sum((x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True)) / (len(a) - 1)


def variance_by_loops(z: Tensor) -> float:
    """Equation 1, with gamma 1 and the epsilon of the authors' code."""
    return sum(max(0.0, 1 - math.sqrt(covariance_of(z, j, j) + 1e-4)) for j in range(z.shape[1])) / z.shape[1]


def covariance_by_loops(z: Tensor) -> float:
    """Equation 4."""
    pairs = [(i, j) for i in range(z.shape[1]) for j in range(z.shape[1]) if i != j]
    return sum(covariance_of(z, i, j) ** 2 for i, j in pairs) / z.shape[1]


@pytest.mark.parametrize("weights", [(25, 25, 1), (1, 0, 0), (0, 1, 0), (0, 0, 1)])
def test_loss_is_the_weighted_sum_of_its_three_terms(weights: tuple[float, float, float]) -> None:
    generator = torch.Generator().manual_seed(1)
    spread = torch.tensor([0.1, 0.5, 0.9, 1.5, 3.0], dtype=torch.float64)  # some below the hinge, some above
    z_0, z_1 = (torch.randn(7, DIM, generator=generator, dtype=torch.float64) * spread for _ in range(2))
    expected = (
        weights[0] * invariance_by_loops(z_0, z_1)
        + weights[1] * (variance_by_loops(z_0) + variance_by_loops(z_1)) / 2
        + weights[2] * (covariance_by_loops(z_0) + covariance_by_loops(z_1))
    )
    assert float(small(weights=weights).criterion(z_0, z_1)) == pytest.approx(expected, rel=1e-9)


def test_loss_of_a_batch_is_that_of_its_two_embeddings() -> None:
    module, batch = small(), view_batch(16, 16)
    z_0, z_1 = (module.head(features) for features in module.encode(batch.views))
    loss, z = module.embed_and_loss(batch)
    torch.testing.assert_close(loss, module.criterion(z_0, z_1))
    torch.testing.assert_close(z, z_0)
    assert z.shape == (4, DIM)


def test_gradient_reaches_every_parameter() -> None:
    assert_gradients_reach_exactly(small(), view_batch(16, 16))


def test_both_members_start_from_the_same_weights_and_leave_the_global_generator_alone() -> None:
    assert_starts_from_its_seed(small)


@pytest.mark.parametrize("name", ["invariance", "variance", "covariance"])
def test_a_negative_weight_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=rf"^{name}=-1: must be 0 or more"):
        VICReg(**{name: -1})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["hidden_dim", "output_dim"])
def test_a_width_of_zero_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=rf"^{name}=0: must be 1 or more"):
        VICReg(**{name: 0})  # type: ignore[arg-type]
