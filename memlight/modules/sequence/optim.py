"""Optimizers whose update is elementwise, so that members on one tensor's leading axis are trained as if alone."""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer

OptimizerName = Literal["adam", "adamw", "sgd"]


def make_optimizer(
    name: OptimizerName, weights: Sequence[Tensor], learning_rate: float, weight_decay: float, momentum: float
) -> Optimizer:
    """A fused optimizer: one pass over each weight.

    It reads a gradient as if it lay in memory as its weight does: make gradients contiguous.

    Args:
        name: adam (decay as an L2 penalty), adamw (decay decoupled) or sgd.
        weights: what is trained.
        learning_rate: constant.
        weight_decay: on every weight.
        momentum: of sgd.
    """
    match name:
        case "adam":
            return Adam(weights, lr=learning_rate, weight_decay=weight_decay, fused=True)
        case "adamw":
            return AdamW(weights, lr=learning_rate, weight_decay=weight_decay, fused=True)
        case "sgd":
            return SGD(weights, lr=learning_rate, momentum=momentum, weight_decay=weight_decay, fused=True)
