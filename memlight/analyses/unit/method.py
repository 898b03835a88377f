"""The whole training method of a finished member: its encoder with the heads and statistics that its loss needs."""

from importlib import import_module
from typing import Any

import torch
from torch import nn

from memlight.errors import UserError
from memlight.modules import DINO
from memlight.modules.base import SSLModule
from memlight.modules.optim import OptimConfig
from memlight.runs.checkpoints import checkpoint_state
from memlight.runs.opened import OpenedRun
from memlight.storage.rundir import RunDir
from memlight.storage.tables import read_yaml_config


def load_method(run: RunDir, role: str) -> SSLModule:
    """Build the method that a run's ``config.yaml`` names, with the weights of a member's ``checkpoints/last.ckpt``.

    Args:
        run: the run directory.
        role: which member.

    Returns:
        The method as training left it, on the CPU and in eval mode, without a trainer and not compiled.

    Raises:
        UserError: no configuration or checkpoint, a damaged one, or the two do not belong together.
    """
    last = run.member(role).checkpoints / "last.ckpt"
    if not last.is_file():
        raise UserError(
            f"--run {run.root}: no {role}/checkpoints/{last.name}, which holds the heads of the training's loss; train "
            "it again, or use --objective activation."
        )
    method = _build(run, read_yaml_config(run.config))
    try:
        method.load_state_dict(checkpoint_state(last))
    except RuntimeError as error:
        raise UserError(f"--run {run.root}: {role}/checkpoints/{last.name} is not of {run.config.name}.") from error
    if isinstance(method, DINO):
        method.teacher_temperature_epochs = 0  # the warm-up is over; without a trainer every epoch is the first
    return method.eval()


def method_of(opened: OpenedRun, member: str, encoder: nn.Module) -> SSLModule:
    """The method whose loss trains an encoder, on its device and with the same weights.

    Args:
        opened: the run.
        member: which member.
        encoder: what `OpenedRun.encoder` gave for it.

    Raises:
        UserError: as `load_method`; the method's loss does not train this network (DINO's teacher follows its student),
            or the checkpoint holds other weights.
    """
    method = load_method(opened.run, member).to(next(encoder.parameters()).device)
    name = opened.network or next(iter(method.networks))
    if method.networks[name] is not method.encoder:
        trained = next(other for other, network in method.networks.items() if network is method.encoder)
        raise UserError(
            f"--network {name}: the loss of {type(method).__name__} trains the {trained}; choose --network {trained}, "
            "or --objective activation."
        )
    state, finished = method.encoder.state_dict(), encoder.state_dict()
    if state.keys() != finished.keys() or not all(torch.equal(state[key], finished[key]) for key in state):
        raise UserError(
            f"--run {opened.run.root}: {member}/checkpoints/last.ckpt holds other weights than the finished encoder; "
            "finish the training with `train.py fit --resume true`."
        )
    return method


def _build(run: RunDir, config: dict[str, Any]) -> SSLModule:
    """The class that the configuration names, with its arguments."""
    try:
        package, _, name = str(config["model"]["class_path"]).rpartition(".")
        kind = getattr(import_module(package), name)
        arguments = {**config["model"]["init_args"], "compile": False}
        if "optim" in arguments:
            arguments["optim"] = OptimConfig(**arguments["optim"])
        method = kind(**arguments)
    except (AttributeError, ImportError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"--run {run.root}: {run.config.name} names no method that can be built ({error}); train it again."
        ) from error
    if not isinstance(method, SSLModule):
        raise UserError(f"--run {run.root}: {name} is not a training method of memlight.")
    return method
