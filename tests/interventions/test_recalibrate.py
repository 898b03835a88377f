"""BatchNorm statistics against an oracle that forwards one image at a time."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from memlight.errors import UserError
from memlight.interventions.recalibrate import batchnorms, recalibrate_batchnorm
from tests.close import NETWORK
from tests.ddp import run_ddp
from tests.metrics.tiny import image_batches, make_views
from tests.tiny_pair import same_tensors

COUNT = 11


class TwoNorms(nn.Module):
    """The first norm feeds the second, over positions and over vectors; the last has no statistics of its own."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            self.conv = nn.Conv2d(3, 6, 3, stride=2)
            self.second = nn.BatchNorm1d(5)  # runs second, registered first
            self.first = nn.BatchNorm2d(6)
            self.unused = nn.BatchNorm2d(6)
            self.own = nn.BatchNorm1d(5, track_running_stats=False, affine=False)
            self.linear = nn.Linear(6, 5)
            for norm in (self.first, self.second):
                norm.running_mean.normal_()
                norm.running_var.uniform_(0.5, 2)
                nn.init.normal_(norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.second(self.linear(self.first(self.conv(x)).relu_().mean((2, 3))))
        return out


def recalibrated(batch_size: int = 4, ids: Tensor | None = None) -> nn.Module:
    (copy,) = recalibrate_batchnorm(
        [TwoNorms()], image_batches(COUNT, batch_size, ids), make_views, image_size=8, max_forward=batch_size
    )
    return copy


def moments(rows: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance (n - 1) of every channel, value by value."""
    means, variances = [], []
    for channel in range(rows[0].shape[0]):
        values = [float(value) for row in rows for value in row[channel].ravel()]
        mean = sum(values) / len(values)
        means.append(mean)
        variances.append(sum((value - mean) ** 2 for value in values) / (len(values) - 1))
    return np.array(means), np.array(variances)


def test_each_norm_is_measured_with_those_before_it_already_renewed() -> None:
    net = TwoNorms().eval().double()
    images = [make_views(batch, 0).double() for batch in image_batches(COUNT, 1)]
    with torch.no_grad():
        convolved = [net.conv(image)[0].numpy() for image in images]
        mean, variance = moments(convolved)
        weight, bias = net.first.weight.numpy(), net.first.bias.numpy()
        vectors = []
        for x in convolved:
            scaled = [(x[c] - mean[c]) / np.sqrt(variance[c] + 1e-5) * weight[c] + bias[c] for c in range(6)]
            pooled = torch.tensor([np.maximum(channel, 0).mean() for channel in scaled])
            vectors.append(net.linear(pooled).numpy())
    copy = recalibrated()
    for norm, (wanted_mean, wanted_variance) in ((copy.first, (mean, variance)), (copy.second, moments(vectors))):
        assert norm.running_mean.numpy() == pytest.approx(wanted_mean, rel=1e-4, abs=1e-5)
        assert norm.running_var.numpy() == pytest.approx(wanted_variance, rel=1e-4, abs=1e-6)


def test_nothing_else_changes_and_the_encoder_stays_as_it_is() -> None:
    net, before = TwoNorms().train(), TwoNorms().state_dict()
    generator = torch.get_rng_state()
    (copy,) = recalibrate_batchnorm([net], image_batches(COUNT, 4), make_views, image_size=8)
    assert same_tensors(dict(net.state_dict()), dict(before)) and net.training and copy.training
    assert torch.equal(torch.get_rng_state(), generator)
    changed = {name for name, tensor in copy.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {f"{norm}.{entry}" for norm in ("first", "second") for entry in ("running_mean", "running_var")}
    assert not any(module._forward_pre_hooks for module in [*net.modules(), *copy.modules()])


@pytest.mark.parametrize("batch_size", [1, 3, 11])
def test_how_images_are_dealt_into_batches_does_not_matter(batch_size: int) -> None:
    a, b = recalibrated(4).state_dict(), recalibrated(batch_size).state_dict()
    for name, tensor in a.items():
        torch.testing.assert_close(tensor, b[name], **NETWORK)


def test_encoders_that_share_the_views_do_not_meet() -> None:
    other = TwoNorms()
    nn.init.normal_(other.conv.weight)
    batches = image_batches(COUNT, 4)
    together = recalibrate_batchnorm([other, TwoNorms()], batches, make_views, image_size=8, max_forward=4)
    assert same_tensors(dict(together[1].state_dict()), dict(recalibrated().state_dict()))
    assert not torch.equal(together[0].first.running_mean, together[1].first.running_mean)


def recalibrated_share() -> dict[str, Tensor]:
    rank = torch.distributed.get_rank()
    ids = torch.arange(1000, 1000 + COUNT)[: 4 if rank == 0 else None][0 if rank == 0 else 4 :]
    return dict(recalibrated(3, ids).state_dict())


@pytest.mark.ddp
def test_two_processes_measure_what_one_does() -> None:
    one = recalibrated().state_dict()
    for shares in run_ddp(recalibrated_share):
        for name, tensor in one.items():
            torch.testing.assert_close(shares[name], tensor, **NETWORK)


def test_order_is_that_of_the_forward_and_an_encoder_without_batchnorm_is_only_copied() -> None:
    assert batchnorms(TwoNorms(), 8) == ["first", "second"]
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4))
    (copy,) = recalibrate_batchnorm([plain], [], make_views)
    assert copy is not plain and same_tensors(dict(copy.state_dict()), dict(plain.state_dict()))


def test_no_image_and_a_norm_that_runs_twice_are_refused() -> None:
    with pytest.raises(UserError, match="no image"):
        recalibrate_batchnorm([TwoNorms()], [], make_views, image_size=8)
    norm = nn.BatchNorm2d(3)
    with pytest.raises(ValueError, match="0 runs twice"):
        batchnorms(nn.Sequential(norm, nn.Conv2d(3, 3, 1), norm), 8)
