"""Decoder of VAR's VQVAE (Tian et al. 2024) with the parameter names of the published ``decoder.*``."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.functional import interpolate, silu

from memlight.models.vqvae import Blocks, Middle, group_norm


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
            UpLevel(width_in, width, blocks + 1, attention=level == last, upsample=level > 0)
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


class UpLevel(Blocks):
    """Residual blocks of one width and the way to the next level.

    Args:
        in_channels: channels of the input.
        channels: channels of the output.
        blocks: how many residual blocks.
        attention: put one after each block.
        upsample: double height and width at the end.
    """

    def __init__(self, in_channels: int, channels: int, blocks: int, *, attention: bool, upsample: bool) -> None:
        super().__init__(in_channels, channels, blocks, attention=attention)
        if upsample:
            self.upsample = Upsample(channels)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, in_channels, h, w)`` to ``(B, channels, h, w)``, or twice that height and width."""
        x = super().forward(x)
        return self.upsample(x) if hasattr(self, "upsample") else x


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
