"""ResNet9 of Wang et al. (NeurIPS 2024), Table 8, with one module per row of the paper's tables."""

from typing import ClassVar

from torch import Tensor, nn


class ConvBlock(nn.Module):
    """3x3 convolution, BatchNorm, ReLU and, where asked, 2x2 max pooling.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output: the units of the layer.
        pool: halve height and width at the end, so that the block's output is read after the pool.
    """

    def __init__(self, in_channels: int, out_channels: int, pool: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)
        self.act = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(2) if pool else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """``(B, in_channels, H, W)`` to ``(B, out_channels, H, W)``, or half that height and width."""
        out: Tensor = self.pool(self.act(self.norm(self.conv(x))))
        return out


class ResidualSum(nn.Module):
    """The sum of a block's output and its shortcut, as a module so that a hook sees it."""

    def forward(self, x: Tensor, shortcut: Tensor) -> Tensor:
        """Two tensors of equal shape to their sum."""
        return x + shortcut


class ResNet9(nn.Module):
    """Eight convolution blocks and two residual sums: ten layers, 1120 units in the eight blocks.

    The released code reads pooled blocks after the pool; so do hooks on these modules.

    Args:
        in_channels: channels of the images.

    Attributes:
        layer_names: the layers of the paper's Table 1, in execution order.
        num_features: width of the output, 256.
        min_size: smallest image side the four poolings leave anything of.
    """

    layer_names: ClassVar[tuple[str, ...]] = (
        "layer1",
        "layer2",
        "layer3",
        "layer4",
        "res2",
        "layer5",
        "layer6",
        "layer7",
        "layer8",
        "res6",
    )
    num_features: ClassVar[int] = 256
    min_size: ClassVar[int] = 16

    def __init__(self, in_channels: int = 3) -> None:
        super().__init__()
        self.layer1 = ConvBlock(in_channels, 32, pool=True)
        self.layer2 = ConvBlock(32, 64, pool=True)
        self.layer3 = ConvBlock(64, 64)
        self.layer4 = ConvBlock(64, 64)
        self.res2 = ResidualSum()
        self.layer5 = ConvBlock(64, 128, pool=True)
        self.layer6 = ConvBlock(128, 256, pool=True)
        self.layer7 = ConvBlock(256, 256)
        self.layer8 = ConvBlock(256, 256)
        self.res6 = ResidualSum()
        self.global_pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images ``(B, in_channels, H, W)`` to features ``(B, 256)``."""
        x = self.layer2(self.layer1(images))
        x = self.res2(self.layer4(self.layer3(x)), x)
        x = self.layer6(self.layer5(x))
        x = self.res6(self.layer8(self.layer7(x)), x)
        features: Tensor = self.global_pool(x).flatten(1)
        return features
