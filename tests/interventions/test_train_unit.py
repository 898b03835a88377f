"""One unit is trained: its entries follow Adam written as loops, and nothing else moves by a bit."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from memlight.features.hooks import capture
from memlight.interventions.parts import unit_entries
from memlight.interventions.prune import restore_units
from memlight.interventions.train_unit import train_unit
from memlight.models.encoders import build_encoder

LAYER, UNIT = "layer5", 7


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def trained_norms() -> nn.Module:
    """A ResNet9 whose BatchNorm statistics are not those it begins with."""
    encoder = build_encoder("resnet9", seed=0)
    generator = torch.Generator().manual_seed(0)
    for name, tensor in encoder.state_dict().items():
        if "norm" in name and tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    return encoder.train()


def spread(encoder: nn.Module, images: Tensor) -> Callable[[int], Tensor]:
    return lambda epoch: -encoder(images + epoch).std(0).mean()


def state_of(encoder: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in encoder.state_dict().items()}


def test_every_entry_but_the_unit_s_is_bit_identical_and_so_are_the_other_units(images: Tensor) -> None:
    encoder = trained_norms()
    before, entries = state_of(encoder), unit_entries(encoder, {LAYER: [UNIT]})
    with torch.no_grad(), capture(encoder.eval(), [LAYER], reduce="none") as captured:
        encoder(images)
        outputs = captured[LAYER]
    encoder.train()
    encoder.layer1.conv.weight.requires_grad_(False)
    steps = train_unit(encoder, spread(encoder, images), entries, epochs=3, lr=0.1)
    assert len([float(loss) for loss in steps]) == 3
    for name, tensor in encoder.state_dict().items():
        mask = entries.get(name, torch.zeros_like(tensor, dtype=torch.bool))
        assert torch.equal(tensor[~mask], before[name][~mask]), name
        moves = name in (f"{LAYER}.conv.weight", f"{LAYER}.norm.weight", f"{LAYER}.norm.bias")
        assert bool((tensor[mask] != before[name][mask]).any()) == moves, name
    assert encoder.training and all(module.training for module in encoder.modules())
    assert not encoder.layer1.conv.weight.requires_grad
    assert all(parameter.grad is None for parameter in encoder.parameters())
    assert sum(not parameter.requires_grad for parameter in encoder.parameters()) == 1
    with torch.no_grad(), capture(encoder.eval(), [LAYER], reduce="none") as captured:
        encoder(images)
        same = [torch.equal(captured[LAYER][:, unit], outputs[:, unit]) for unit in range(outputs.shape[1])]
    assert [unit for unit, equal in enumerate(same) if not equal] == [UNIT]


def test_train_the_layer_and_restore_the_others_leaves_the_same_entries_alone(images: Tensor) -> None:
    original, encoder = trained_norms(), trained_norms()
    entries = unit_entries(encoder, {LAYER: range(128)})
    list(train_unit(encoder, spread(encoder, images), entries, epochs=2, lr=0.1))
    assert not torch.equal(encoder.layer5.conv.weight[0], original.layer5.conv.weight[0])
    restored = restore_units(encoder, original, {LAYER: [unit for unit in range(128) if unit != UNIT]})
    mine = unit_entries(encoder, {LAYER: [UNIT]})
    for name, tensor in original.state_dict().items():
        mask = mine.get(name, torch.zeros_like(tensor, dtype=torch.bool))
        assert torch.equal(restored.state_dict()[name][~mask], tensor[~mask]), name
    assert torch.equal(restored.layer5.conv.weight[UNIT], encoder.layer5.conv.weight[UNIT])
    assert not torch.equal(restored.layer5.conv.weight[UNIT], original.layer5.conv.weight[UNIT])


def test_a_row_follows_adam_without_momentum_written_as_loops() -> None:
    layer = nn.Linear(3, 2, bias=False).double()
    row, x, lr = layer.weight[1].tolist(), [0.5, -2.0, 1.5], 0.05
    mask = torch.tensor([[False] * 3, [True] * 3])
    model = nn.Sequential(layer)
    inputs = torch.tensor([x], dtype=torch.float64)
    losses = [
        float(value)
        for value in train_unit(
            model, lambda epoch: (model(inputs)[0, 1] - epoch).square(), {"0.weight": mask}, epochs=4, lr=lr
        )
    ]
    second = [0.0] * 3
    for epoch, loss in enumerate(losses):
        y = sum(w * v for w, v in zip(row, x, strict=True))
        assert loss == pytest.approx((y - epoch) ** 2)
        for i in range(3):
            slope = 2 * (y - epoch) * x[i]
            second[i] = 0.999 * second[i] + 0.001 * slope**2
            unbiased = second[i] / (1 - 0.999 ** (epoch + 1))
            row[i] -= lr * slope / (math.sqrt(unbiased) + 1e-8)
    assert layer.weight[1].tolist() == pytest.approx(row)


def test_who_stops_early_gets_the_encoder_back_as_it_was_but_for_the_unit(images: Tensor) -> None:
    encoder = trained_norms()
    steps = train_unit(encoder, spread(encoder, images), unit_entries(encoder, {LAYER: [UNIT]}), epochs=9)
    next(steps)
    assert not encoder.training
    steps.close()
    assert encoder.training and all(parameter.requires_grad for parameter in encoder.parameters())


def test_entries_of_nothing_are_refused(images: Tensor) -> None:
    encoder = trained_norms()
    with pytest.raises(ValueError, match="no parameter"):
        next(train_unit(encoder, spread(encoder, images), {"layer9.weight": torch.ones(1)}, epochs=1))
