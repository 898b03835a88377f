import pytest
import torch
from torch import Tensor

from memlight.batch import ViewBatch
from memlight.errors import UserError
from memlight.modules import SimSiam
from tests.modules.tiny import assert_gradients_reach_exactly, assert_starts_from_its_seed, view_batch


def small(init_seed: int = 0) -> SimSiam:
    return SimSiam(image_size=16, init_seed=init_seed, hidden_dim=24, output_dim=12, prediction_dim=6)


def negative_cosine_by_loops(p: Tensor, z: Tensor) -> Tensor:
    """Equation 1 of Chen & He (2021), averaged over the images."""
    total = torch.zeros(())
    for p_i, z_i in zip(p, z, strict=True):
        total = total - sum(a * b for a, b in zip(p_i / p_i.norm(), z_i / z_i.norm(), strict=True))
    return total / len(p)


def test_loss_and_its_gradient_are_those_of_the_symmetrized_cosine_with_the_targets_held_constant() -> None:
    module, batch = small(), view_batch(16, 16)
    loss, z = module.embed_and_loss(batch)
    loss.backward()
    got = {name: parameter.grad for name, parameter in module.named_parameters()}
    module.zero_grad()
    z_0, z_1 = (module.head(features) for features in module.encode(batch.views))
    p_0, p_1 = module.predictor(z_0), module.predictor(z_1)
    expected = negative_cosine_by_loops(p_0, z_1.detach()) / 2 + negative_cosine_by_loops(p_1, z_0.detach()) / 2
    expected.backward()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(z, z_0.detach())
    for name, parameter in module.named_parameters():
        torch.testing.assert_close(got[name], parameter.grad, rtol=1e-3, atol=1e-6)


class Blind(torch.nn.Module):
    """A predictor that does not look at what it is given."""

    def forward(self, z: Tensor) -> Tensor:
        return torch.ones_like(z)


def test_no_gradient_goes_through_what_is_predicted() -> None:
    module = small()
    module.predictor = Blind()  # type: ignore[assignment]
    assert not module.embed_and_loss(view_batch(16, 16))[0].requires_grad


def test_swapping_the_views_changes_nothing() -> None:
    module = small().eval()
    batch = view_batch(16, 16)
    swapped = ViewBatch(batch.views[::-1], batch.labels, batch.ids)
    torch.testing.assert_close(module.embed_and_loss(batch)[0], module.embed_and_loss(swapped)[0])


def test_gradient_reaches_every_parameter() -> None:
    assert_gradients_reach_exactly(small(), view_batch(16, 16))


def test_both_members_start_from_the_same_weights_and_leave_the_global_generator_alone() -> None:
    assert_starts_from_its_seed(small)


@pytest.mark.parametrize("name", ["hidden_dim", "output_dim", "prediction_dim"])
def test_a_width_of_zero_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=rf"^{name}=0: must be 1 or more"):
        SimSiam(**{name: 0})  # type: ignore[arg-type]
