"""Optimizers and the cosine schedule with warm-up that every training method here shares."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from lightly.utils.lars import LARS
from lightly.utils.scheduler import CosineWarmupScheduler
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from memlight.errors import UserError, at_least, at_most, below_one, positive

LR_END = 0.001
"""Share of the peak learning rate at which a cosine ends that is told nothing: lightly's, and that of VICReg's code."""


@dataclass(frozen=True)
class OptimConfig:
    """How a method is optimised.

    Attributes:
        name: "lars", "sgd" (momentum, Nesterov off) or "adamw".
        lr: peak learning rate at `lr_batch_size` samples a step.
        weight_decay: not applied to biases and normalisation parameters.
        momentum: of lars and sgd; ignored by adamw.
        warmup_epochs: epochs of linear warm-up from 0 before the cosine decay.
        lr_batch_size: the learning rate used is ``lr * global batch / lr_batch_size``; 0 uses `lr` as it is.
        lr_end: learning rate of the last step as a share of the peak; null is .001. The authors of SimCLR, MAE and
            SimSiam end at 0, those of VICReg at .001.
        betas: of adamw's moving averages of the gradient and of its square; null is (.9, .999). Ignored by the others.
    """

    name: Literal["lars", "sgd", "adamw"] = "sgd"
    lr: float = 0.06
    weight_decay: float = 5e-4
    momentum: float = 0.9
    warmup_epochs: float = 10.0
    lr_batch_size: int = 256
    lr_end: float | None = None
    betas: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        positive(lr=self.lr)
        at_least(0, weight_decay=self.weight_decay, warmup_epochs=self.warmup_epochs, lr_batch_size=self.lr_batch_size)
        below_one(momentum=self.momentum)
        if self.lr_end is not None:
            at_least(0, lr_end=self.lr_end)
            at_most(1, lr_end=self.lr_end)
        if self.betas is not None and not (len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas)):
            raise UserError("betas", list(self.betas), "two numbers are needed, each 0 or more and below 1")

    def scaled_lr(self, global_batch_size: int) -> float:
        """Peak learning rate for a global batch of this many samples."""
        return self.lr * global_batch_size / self.lr_batch_size if self.lr_batch_size else self.lr


def cosine(start: float, end: float, done: float) -> float:
    """Value on the way from ``start`` to ``end`` along half a cosine, ``done`` in [0, 1]."""
    return end + (start - end) * (1 + math.cos(math.pi * min(1.0, done))) / 2


def parameter_groups(modules: Iterable[nn.Module], weight_decay: float) -> list[dict[str, object]]:
    """Split trainable parameters into those that decay and those that do not (biases, normalisation, vectors).

    LARS scales only groups that decay, so the second group is also free of layer-wise scaling, as in
    the SimCLR paper.
    """
    decay: list[nn.Parameter] = []
    no_decay: list[nn.Parameter] = []
    for root in modules:
        for module in root.modules():
            for name, parameter in module.named_parameters(recurse=False):
                if parameter.requires_grad:
                    exempt = parameter.ndim < 2 or name.endswith("bias")
                    (no_decay if exempt else decay).append(parameter)
    return [{"params": decay, "weight_decay": weight_decay}, {"params": no_decay, "weight_decay": 0.0}]


def build_optimizer(config: OptimConfig, modules: Iterable[nn.Module], global_batch_size: int) -> torch.optim.Optimizer:
    """The configured optimizer over the parameters of `modules`."""
    groups = parameter_groups(modules, config.weight_decay)
    lr = config.scaled_lr(global_batch_size)
    if config.name == "adamw":
        first, second = config.betas or (0.9, 0.999)
        return torch.optim.AdamW(groups, lr=lr, betas=(first, second))
    if config.name == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=config.momentum)
    lars: torch.optim.Optimizer = LARS(groups, lr=lr, momentum=config.momentum)
    return lars


class Schedule(CosineWarmupScheduler):  # type: ignore[misc]
    """Linear warm-up from 0, then half a cosine that the last step is the end of, stepped once an optimizer step.

    A schedule that goes on takes from a checkpoint how many steps are done, and nothing else: its length, its warm-up
    and its learning rates are those it was made with, so a configuration means what it says.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on after as many steps as another schedule had done."""
        self.last_epoch, self._step_count = state_dict["last_epoch"], state_dict["_step_count"]
        self._last_lr = [lr * scale(self.last_epoch) for lr, scale in zip(self.base_lrs, self.lr_lambdas, strict=True)]
        for group, lr in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            group["lr"] = lr


def build_schedule(
    optimizer: torch.optim.Optimizer, *, total_steps: int, warmup_steps: int, lr_end: float | None = None
) -> LRScheduler:
    """The schedule of a whole training; for ``lr_end`` see `OptimConfig`."""
    end = LR_END if lr_end is None else lr_end
    schedule: LRScheduler = Schedule(
        optimizer, warmup_epochs=warmup_steps, max_epochs=max(total_steps, 1), end_value=end
    )
    return schedule


def keep_options(optimizer: torch.optim.Optimizer) -> None:
    """Let an optimizer take moments and step counts from a checkpoint, and keep the options it has now.

    Learning rate, weight decay, momentum and the like stay those of the configuration.
    """
    configured = [
        {name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups
    ]

    def put_back(optimizer: torch.optim.Optimizer) -> None:
        for group, options in zip(optimizer.param_groups, configured, strict=True):
            parameters = group["params"]
            group.clear()
            group.update(options, params=parameters)

    optimizer.register_load_state_dict_post_hook(put_back)
