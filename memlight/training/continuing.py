"""Whether a training can go on from a checkpoint, told before anything is written.

A checkpoint gives weights, the optimizer's moments, how far the training is, and what callbacks remember. Learning
rates, weight decay and the length of the schedule are the configuration's, see `memlight.modules.optim`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import lightning.pytorch as L
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from memlight.errors import UserError

Refuse = Callable[[str], UserError]
"""The error for what is wrong with a checkpoint."""

_VERSION = re.compile(r"([2-9]|\d\d+)(\.\d+)+((a|b|rc|\.post|\.dev)\d+)*(\+[\w.]+)?")
"""Of Lightning, from 2.0 on: checkpoints are laid out as today's."""

_TELLING = ("betas", "momentum", "trust_coefficient")
"""Options that some optimizers have and others have not."""


def require_continuable(
    checkpoint: Mapping[str, Any],
    module: L.LightningModule,
    optimizer: Optimizer,
    trainer: L.Trainer,
    refuse: Refuse,
    *,
    schedules: int,
    callbacks: Sequence[L.Callback],
) -> None:
    """Refuse a checkpoint that a training cannot go on from.

    Args:
        checkpoint: what the file holds.
        module: the training method, built; not changed.
        optimizer: as the training will have it, over parameters of the same shapes; not changed.
        trainer: not changed.
        refuse: makes the error.
        schedules: how many learning-rate schedules the training has.
        callbacks: those whose states must be of the kinds that they now have.

    Raises:
        UserError: weights, optimizer or position are missing, of another training, or of other kinds.
    """
    require_weights(checkpoint.get("state_dict"), module, refuse)
    _require_version(checkpoint.get("pytorch-lightning_version"), refuse)
    _require_position(checkpoint, trainer, refuse)
    _require_optimizer(checkpoint.get("optimizer_states"), optimizer, refuse)
    places = checkpoint.get("lr_schedulers")
    if not isinstance(places, list) or len(places) != schedules:
        raise refuse("holds no state of this training's learning-rate schedule")
    for place in places:
        require_kinds({"last_epoch": 0, "_step_count": 0}, place, "lr_schedulers", refuse)
    states = checkpoint.get("callbacks", {})
    if not isinstance(states, dict):
        raise refuse("callbacks is not a dictionary")
    for callback in callbacks:
        if callback.state_key in states:
            require_kinds(callback.state_dict(), states[callback.state_key], callback.state_key, refuse)


def require_weights(found: object, module: nn.Module, refuse: Refuse) -> None:
    """Refuse weights that are not those of a module.

    Raises:
        UserError: one is missing, of another shape, or too many.
    """
    expected = module.state_dict()
    if not isinstance(found, dict) or not found:
        raise refuse("holds no weights")
    other = [name for name in [*expected, *found] if name not in expected or name not in found]
    if other:
        name, where = other[0], "the checkpoint" if other[0] in found else "this training"
        raise refuse(f"holds the weights of another method, head or encoder ({name} is in {where} alone)")
    for name, tensor in expected.items():
        if wrong := _wrong_kind(tensor, found[name], name):
            raise refuse(f"holds the weights of another method, head or encoder ({wrong})")


def _require_version(found: object, refuse: Refuse) -> None:
    if not isinstance(found, str) or not _VERSION.fullmatch(found):
        raise refuse("does not say that Lightning 2 or later wrote it")


def _require_position(checkpoint: Mapping[str, Any], trainer: L.Trainer, refuse: Refuse) -> None:
    require_kinds({"epoch": 0, "global_step": 0}, checkpoint, "", refuse)
    if not isinstance(loops := checkpoint.get("loops"), dict):
        raise refuse("does not say how far the training was (loops is missing)")
    require_kinds({"fit_loop": trainer.fit_loop.state_dict()}, loops, "loops", refuse)


def _require_optimizer(found: object, optimizer: Optimizer, refuse: Refuse) -> None:
    if not isinstance(found, list) or len(found) != 1 or not isinstance(found[0], dict):
        raise refuse("holds no state of an optimizer")
    groups, state = found[0].get("param_groups"), found[0].get("state")
    if (
        not isinstance(groups, list)
        or not all(isinstance(group, dict) for group in groups)
        or not isinstance(state, dict)
    ):
        raise refuse("holds no state of an optimizer")
    for group, configured in zip(groups, optimizer.param_groups, strict=False):
        if any((name in group) != (name in configured) for name in _TELLING):
            raise refuse(f"was trained with another optimizer than {type(optimizer).__name__.lower()}")
        decoupled = [one.get("decoupled_weight_decay") for one in (group, configured)]
        if None not in decoupled and decoupled[0] != decoupled[1]:
            raise refuse(f"was trained with another optimizer than {type(optimizer).__name__.lower()}")
    parameters = [group["params"] for group in optimizer.param_groups]
    numbers = [group.get("params") for group in groups]
    if not all(isinstance(of_group, list) for of_group in numbers) or [*map(len, numbers)] != [*map(len, parameters)]:
        raise refuse("holds the optimizer of other parameters")
    flat = [number for of_group in numbers for number in of_group]
    if not all(_is_count(number) for number in flat) or len(set(flat)) != len(flat) or not set(state) <= set(flat):
        raise refuse("holds the optimizer of other parameters")
    kept = _kept_by(optimizer)
    for number, parameter in zip(flat, (one for of_group in parameters for one in of_group), strict=True):
        if not state.get(number):
            continue  # it was never trained
        where = f"optimizer_states, parameter {number}"
        require_kinds(
            {name: parameter if shaped else 0.0 for name, shaped in kept.items()}, state[number], where, refuse
        )


def _kept_by(optimizer: Optimizer) -> dict[str, bool]:
    """What an optimizer keeps of each parameter, and whether in the parameter's shape: seen in a step of one number."""
    options = {name: value for name, value in optimizer.param_groups[0].items() if name not in ("params", "initial_lr")}
    one = nn.Parameter(torch.zeros(1))
    one.grad = torch.zeros(1)
    make: Callable[..., Optimizer] = type(optimizer)
    twin = make([{"params": [one], **options}], lr=0.0)
    twin.step()
    return {name: isinstance(value, Tensor) and value.dim() == 1 for name, value in twin.state[one].items()}


def require_kinds(expected: object, found: object, where: str, refuse: Refuse) -> None:
    """Refuse a value that is not of the kind that another one is.

    Counts are 0 or more; a number may be a tensor of one; None stands for anything; more keys than expected, and
    longer or shorter lists, are no difference.

    Args:
        expected: tensors, numbers and texts in dictionaries and lists.
        found: what should be such.
        where: what it is called in the error.
        refuse: makes the error.

    Raises:
        UserError: says where the first difference is.
    """
    if wrong := _wrong_kind(expected, found, where):
        raise refuse(f"is not of this training, or damaged ({wrong})")


def _wrong_kind(expected: object, found: object, where: str) -> str | None:
    """Where two nested values differ in kind, in words; None where they do not; see `require_kinds`."""
    if isinstance(expected, Tensor):
        if not isinstance(found, Tensor) or found.layout != torch.strided or found.is_meta:
            return f"{where} is no plain tensor"
        if found.shape != expected.shape:
            return f"{where}: {_shape(found)}, now {_shape(expected)}"
        return None if found.is_floating_point() == expected.is_floating_point() else f"{where}: {found.dtype}"
    if isinstance(expected, dict):
        if not isinstance(found, dict):
            return f"{where} is no dictionary"
        for name, value in expected.items():
            inner = f"{where}.{name}".lstrip(".")
            if name not in found:
                return f"{inner} is missing"
            if wrong := _wrong_kind(value, found[name], inner):
                return wrong
        return None
    if isinstance(expected, list | tuple):
        if not isinstance(found, list | tuple):
            return f"{where} is no list"
        return next(filter(None, (_wrong_kind(*pair, where) for pair in zip(expected, found, strict=False))), None)
    if isinstance(expected, bool | str):
        return None if isinstance(found, type(expected)) else f"{where} is no {type(expected).__name__}"
    if isinstance(expected, int):
        return None if _is_count(found) else f"{where} is no count"
    if isinstance(expected, float):
        single = (
            found.numel() == 1 and not found.is_meta if isinstance(found, Tensor) else isinstance(found, int | float)
        )
        return None if single else f"{where} is no number"
    return None


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "a number"
