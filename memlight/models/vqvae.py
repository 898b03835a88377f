"""VAR's VQVAE (Tian et al. 2024) without its quantiser, with the parameter names of ``vae_ch160v4096z32.pth``."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad, scaled_dot_product_attention, silu

from memlight.storage.writing import atomic_write

GROUPS = 32
"""Groups of every GroupNorm; widths are multiples of it."""

_AT_ONCE = 2**28
"""Most values of the largest map of one forward: a gigabyte in float32."""


class VQVAEEncoder(nn.Module):
    """Images to a map of latents, half the height and width after every level but the last.

    The published encoder has 132 tensors, 44.1 M parameters, 22 layers and 8192 units; on images of 256 pixels it does
    215 GFLOP each and makes latents of 16 x 16 positions.

    Args:
        channels: width of the first level, a multiple of 32; 160 in the published weights.
        multipliers: width of each level over ``channels``.
        blocks: residual blocks of each level.
        latent_channels: channels of the output.
        in_channels: channels of the images.
        image_size: image side in pixels that it is meant for.

    Attributes:
        layer_names: names of the layers in execution order, as in tables of VAR's encoder.
        layer_paths: module path of each layer whose name is not one. ``norm.out`` is the last norm's output;
            ``norm.out@act``, which is not among ``layer_names``, the same after the activation.
        num_features: width of the output, ``latent_channels``.
        max_forward: most images that one forward should hold; the maps of the first level are large.
        view_set: name of the augmentation set whose resizing and normalisation the weights expect.
        published_data: what the published weights were trained on (OpenImages v4, as VAR's authors say).
        min_size: smallest image side the published levels leave anything of.
    """

    layer_paths: ClassVar[Mapping[str, str]] = {
        "conv.in": "conv_in",
        "mid.block.1": "mid.block_1",
        "mid.attn.1": "mid.attn_1",
        "mid.block.2": "mid.block_2",
        "norm.out": "norm_out",
        "norm.out@act": "act_out",
        "conv.out": "conv_out",
    }
    view_set: ClassVar[str] = "var"
    published_data: ClassVar[str] = "OpenImages"
    min_size: ClassVar[int] = 16

    def __init__(
        self,
        channels: int = 160,
        multipliers: Sequence[int] = (1, 1, 2, 2, 4),
        blocks: int = 2,
        latent_channels: int = 32,
        in_channels: int = 3,
        image_size: int = 256,
    ) -> None:
        super().__init__()
        widths = [channels * multiplier for multiplier in multipliers]
        last = len(widths) - 1
        self.conv_in = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.down = nn.ModuleList(
            Level(width_in, width, blocks, attention=level == last, downsample=level < last)
            for level, (width_in, width) in enumerate(zip([channels, *widths], widths, strict=False))
        )
        self.mid = Middle(widths[-1])
        self.norm_out = group_norm(widths[-1])
        self.act_out = nn.SiLU(inplace=True)
        self.conv_out = nn.Conv2d(widths[-1], latent_channels, 3, padding=1)
        self.num_features = latent_channels
        self.max_forward = max(1, _AT_ONCE // (channels * image_size**2))
        first, *after = (name for name in self.layer_paths if not name.endswith("@act"))
        self.layer_names = (first, *_layers_of_levels(last, blocks), *after)

    def latents(self, images: Tensor) -> Tensor:
        """Images ``(B, in_channels, H, W)`` in [-1, 1] to ``(B, latent_channels, H / 16, W / 16)``, not quantised."""
        x = self.conv_in(images)
        for level in self.down:
            x = level(x)
        latents: Tensor = self.conv_out(self.act_out(self.norm_out(self.mid(x))))
        return latents

    def forward(self, images: Tensor) -> Tensor:
        """Images in [-1, 1] to features ``(B, latent_channels)``: the mean of the latents over positions."""
        return self.latents(images).mean((2, 3))


class VQVAEDecoder(nn.Module):
    """A map of latents to images: the encoder's levels backwards, with one residual block more in each.

    Args:
        channels: width of the last level, which is the encoder's first; a multiple of 32.
        multipliers: width of each level of the encoder over ``channels``.
        blocks: residual blocks of each level of the encoder.
        latent_channels: channels of the input.
        out_channels: channels of the images.
    """

    def __init__(
        self,
        channels: int = 160,
        multipliers: Sequence[int] = (1, 1, 2, 2, 4),
        blocks: int = 2,
        latent_channels: int = 32,
        out_channels: int = 3,
    ) -> None:
        super().__init__()
        widths = [channels * multiplier for multiplier in multipliers]
        last = len(widths) - 1
        self.conv_in = nn.Conv2d(latent_channels, widths[-1], 3, padding=1)
        self.mid = Middle(widths[-1])
        self.up = nn.ModuleList(
            Level(width_in, width, blocks + 1, attention=level == last, upsample=level > 0)
            for level, (width_in, width) in enumerate(zip([*widths[1:], widths[-1]], widths, strict=True))
        )
        self.norm_out = group_norm(channels * multipliers[0])
        self.conv_out = nn.Conv2d(channels * multipliers[0], out_channels, 3, padding=1)

    def forward(self, latents: Tensor) -> Tensor:
        """Latents ``(B, latent_channels, h, w)`` to images ``(B, out_channels, 16 h, 16 w)`` for five levels."""
        x = self.mid(self.conv_in(latents))
        for level in reversed(self.up):
            x = level(x)
        images: Tensor = self.conv_out(silu(self.norm_out(x), inplace=True))
        return images


class Level(nn.Module):
    """Residual blocks of one width, and the way to the next level.

    Args:
        in_channels: channels of the input.
        channels: channels of the output.
        blocks: how many residual blocks.
        attention: put one after each block, as in the level of the lowest resolution.
        downsample: halve height and width at the end.
        upsample: double height and width at the end.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        blocks: int,
        *,
        attention: bool,
        downsample: bool = False,
        upsample: bool = False,
    ) -> None:
        super().__init__()
        self.block = nn.ModuleList(
            ResidualBlock(channels if number else in_channels, channels) for number in range(blocks)
        )
        self.attn = nn.ModuleList(Attention(channels) for _ in range(blocks if attention else 0))
        if downsample:
            self.downsample = Downsample(channels)
        if upsample:
            self.upsample = Upsample(channels)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, in_channels, H, W)`` to ``(B, channels, H, W)``, or half or twice that height and width."""
        for number, block in enumerate(self.block):
            x = block(x)
            if len(self.attn):
                x = self.attn[number](x)
        for way in ("downsample", "upsample"):
            x = getattr(self, way)(x) if hasattr(self, way) else x
        return x


class Middle(nn.Module):
    """Block, attention and block at the lowest resolution.

    Args:
        channels: width of all three.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block_1 = ResidualBlock(channels, channels)
        self.attn_1 = Attention(channels)
        self.block_2 = ResidualBlock(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, channels, H, W)`` to the same shape."""
        out: Tensor = self.block_2(self.attn_1(self.block_1(x)))
        return out


class ResidualBlock(nn.Module):
    """Twice GroupNorm, SiLU and 3x3 convolution, added to the input (through a 1x1 convolution where widths differ).

    Args:
        in_channels: channels of the input.
        channels: channels of the output.
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.norm1 = group_norm(in_channels)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.norm2 = group_norm(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.nin_shortcut = nn.Identity() if in_channels == channels else nn.Conv2d(in_channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, in_channels, H, W)`` to ``(B, channels, H, W)``."""
        h = self.conv1(silu(self.norm1(x), inplace=True))
        h = self.conv2(silu(self.norm2(h), inplace=True))
        out: Tensor = self.nin_shortcut(x) + h
        return out


class Attention(nn.Module):
    """Attention of one head over all positions, added to the input.

    Args:
        channels: width of the input, queries, keys and values.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = group_norm(channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, channels, H, W)`` to the same shape."""
        tokens = self.qkv(self.norm(x)).flatten(2).transpose(1, 2).unsqueeze(1)  # (B, 1 head, H W, 3 C)
        attended = scaled_dot_product_attention(*tokens.chunk(3, dim=-1))
        out: Tensor = x + self.proj_out(attended.squeeze(1).transpose(1, 2).reshape(x.shape))
        return out


class Downsample(nn.Module):
    """3x3 convolution of stride 2 on an input with a row and a column of zeros after the last ones.

    Args:
        channels: channels of input and output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, channels, H, W)`` to half that height and width, rounded down."""
        halved: Tensor = self.conv(pad(x, (0, 1, 0, 1)))
        return halved


class Upsample(nn.Module):
    """Every position four times, then a 3x3 convolution.

    Args:
        channels: channels of input and output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, channels, h, w)`` to twice that height and width."""
        doubled: Tensor = self.conv(interpolate(x, scale_factor=2.0, mode="nearest"))
        return doubled


def _layers_of_levels(last: int, blocks: int) -> Iterator[str]:
    for level in range(last + 1):
        for block in range(blocks):
            yield f"down.{level}.block.{block}"
            if level == last:
                yield f"down.{level}.attn.{block}"
        if level < last:
            yield f"down.{level}.downsample"


def group_norm(channels: int) -> nn.GroupNorm:
    """The norm that stands everywhere in encoder and decoder."""
    return nn.GroupNorm(GROUPS, channels, eps=1e-6)


def save_published(path: Path, encoder: VQVAEEncoder, *, trained_on: str) -> None:
    """Write weights of one's own as VAR publishes its: a state_dict of ``torch.save`` whose names begin ``encoder.``.

    Args:
        path: the .pth file.
        encoder: the weights.
        trained_on: what they were trained on, in words; stands in the file, and in all that is measured with it.
    """
    file: dict[str, Any] = {f"encoder.{name}": tensor.cpu() for name, tensor in encoder.state_dict().items()}
    with atomic_write(path) as temporary:
        torch.save({**file, "memlight": {"trained_on": trained_on}}, temporary)
