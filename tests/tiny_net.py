"""A small network with everything that is hard to watch, and a picture of a model to compare with afterwards."""

import torch
from torch import nn


class Toy(nn.Module):
    """Conv, in-place ReLU, conv run out of the order of definition, a layer never run, one run twice, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(5, 7)
        self.second = nn.Conv2d(4, 5, 1)
        self.first = nn.Conv2d(3, 4, 3)
        self.unused = nn.Conv2d(3, 4, 3)
        self.shared = nn.Conv2d(5, 5, 1)
        self.norm = nn.BatchNorm2d(4)
        self.act = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        x = self.act(self.norm(self.first(x)))
        x = self.act(self.second(self.drop(x)))
        x = self.shared(self.shared(x))
        return self.head(x.mean((2, 3)))


def snapshot(model):
    return (
        {name: tensor.clone() for name, tensor in [*model.named_parameters(), *model.named_buffers()]},
        [module.training for module in model.modules()],
        [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()],
        torch.get_rng_state(),
    )


def assert_unchanged(model, before):
    tensors, modes, hooks, rng = before
    now = snapshot(model)
    assert tensors.keys() == now[0].keys()
    assert all(torch.equal(tensor, now[0][name]) for name, tensor in tensors.items())
    assert (modes, hooks) == now[1:3]
    assert torch.equal(rng, now[3])
