"""Projection heads of lightly that need a word of their own."""

import warnings

from torch import nn

from memlight.random import seeded


def dino_head(width: int, hidden_dim: int, bottleneck_dim: int, output_dim: int, seed: int) -> nn.Module:
    """DINO's head, its initial weights a function of ``seed`` alone.

    Args:
        width: of the encoder's features.
        hidden_dim: of the two hidden layers.
        bottleneck_dim: before the last layer.
        output_dim: number of prototypes.
        seed: of the initial weights.
    """
    from lightly.models.modules.heads import DINOProjectionHead

    with seeded(seed), warnings.catch_warnings():  # lightly uses the weight_norm that torch deprecates
        warnings.filterwarnings("ignore", message=".*weight_norm.* is deprecated", category=FutureWarning)
        head: nn.Module = DINOProjectionHead(width, hidden_dim, bottleneck_dim, output_dim)
    return head
