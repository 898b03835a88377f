"""Small networks in which units are made in different ways."""

import torch
from torch import Tensor, nn


class Residual(nn.Module):
    """A block as torchvision writes it, its sum and activation in place; and a classifier's head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.act = nn.ReLU(inplace=True)
        self.block = Block()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block(self.act(self.norm(self.stem(x))))
        out: Tensor = self.head(torch.flatten(self.pool(x), 1))
        return out


class Block(nn.Module):
    """Two convolutions and a shortcut, added in place to what the second norm gave."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(6, 8, 1)
        self.bn1 = nn.BatchNorm2d(8)
        self.act1 = nn.GELU()
        self.conv2 = nn.Conv2d(8, 6, 1)
        self.bn2 = nn.BatchNorm2d(6)
        self.act2 = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.act1(self.bn1(self.conv1(x)))))
        y += x
        out: Tensor = self.act2(y)
        return out


class Odd(nn.Module):
    """What is hard to follow: channels last, a sigmoid, a norm without weights, a gate, an activation before a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(3, 5, 3, padding=1)
        self.layer_norm = nn.LayerNorm(5)
        self.wide = nn.Linear(5, 8)
        self.narrow = nn.Linear(4, 6)
        self.act = nn.SiLU()
        self.squash = nn.Sequential(nn.Linear(6, 7), nn.Sigmoid())
        self.late = nn.Sequential(nn.Linear(7, 6), nn.ReLU(), nn.BatchNorm1d(6))
        self.plain = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6, affine=False))

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer_norm(self.depthwise(x).permute(0, 2, 3, 1))
        gate, value = self.wide(y).chunk(2, dim=-1)
        y = self.narrow(self.act(gate) * value).mean((1, 2))
        out: Tensor = self.plain(self.late(self.squash(y))) * 1.0
        return out


def randomised(model: nn.Module, seed: int = 0) -> nn.Module:
    """The model with every parameter and running statistic drawn anew, none of them 0 or 1, in eval mode."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(
                torch.rand(tensor.shape, generator=generator) * (1 if "var" in name else 2)
                - (0 if "var" in name else 1)
            )
            tensor += 0.5 if "var" in name else 0.05
    return model.eval()
