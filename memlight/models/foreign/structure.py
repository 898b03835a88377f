"""ResNet9s of other programs, whose tensors are found by order and shape: they have no common names."""

from collections.abc import Mapping

import torch
from torch import Tensor

from memlight.models.foreign.names import State

BLOCKS = 8
"""Convolutions of `memlight.models.resnet9.ResNet9`, each with a norm of its own behind it."""

_OF_NORMS = ("weight", "bias", "running_mean", "running_var")


def resnet9_state(given: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> tuple[State, str] | None:
    """The tensors of a ResNet9 under the names of ours; None where a part is none.

    Convolutions of one shape stand in the order of the file; those of the paper's Table 8 are told apart by their
    shapes but for the two of each residual block. A norm belongs to the convolution of its own module, several of one
    module in their order. A convolution's bias only shifts what the norm subtracts: it is taken from the running mean.

    Args:
        given: a part of a file.
        own: the tensors of ours.

    Returns:
        The tensors, and what was found, for people.
    """
    convolutions = [name.removesuffix(".weight") for name in given if given[name].dim() == 4]
    norms = [name.removesuffix(".running_mean") for name in given if name.endswith(".running_mean")]
    if len(convolutions) != BLOCKS or len(norms) != BLOCKS:
        return None
    norm_of = _norms_of(convolutions, norms)
    if norm_of is None:
        return None
    left = list(convolutions)
    state: State = {}
    biased = 0
    for number in range(1, BLOCKS + 1):
        block = f"layer{number}"
        shape = own[f"{block}.conv.weight"].shape
        allowed = {tuple(shape), (shape[0], 1, *shape[2:])} if number == 1 else {tuple(shape)}
        name = next((one for one in left if tuple(given[f"{one}.weight"].shape) in allowed), None)
        if name is None:
            return None
        left.remove(name)
        parts = {part: given.get(f"{norm_of[name]}.{part}") for part in _OF_NORMS}
        if any(tensor is None or tensor.shape != shape[:1] for tensor in parts.values()):
            return None
        state[f"{block}.conv.weight"] = given[f"{name}.weight"]
        state |= {f"{block}.norm.{part}": tensor for part, tensor in parts.items() if tensor is not None}
        if (bias := given.get(f"{name}.bias")) is not None:
            if bias.shape != shape[:1]:
                return None
            mean = state[f"{block}.norm.running_mean"]
            state[f"{block}.norm.running_mean"] = (mean.double() - bias.double()).to(mean.dtype)
            biased += 1
        counter = given.get(f"{norm_of[name]}.num_batches_tracked")
        state[f"{block}.norm.num_batches_tracked"] = torch.zeros((), dtype=torch.long) if counter is None else counter
    whose = "the authors of LayerMem" if "layer1_head.conv.weight" in given else "another program"
    folded = f"; biases of {biased} convolutions folded into the running means behind them" if biased else ""
    return state, f"ResNet9 of {whose}, by order and shapes{folded}"


def _norms_of(convolutions: list[str], norms: list[str]) -> dict[str, str] | None:
    """The norm behind each convolution: of the same module, in the same place among its kind."""

    def by_module(names: list[str]) -> dict[str, list[str]]:
        modules: dict[str, list[str]] = {}
        for name in names:
            modules.setdefault(name.rpartition(".")[0], []).append(name)
        return modules

    of_convolutions, of_norms = by_module(convolutions), by_module(norms)
    if {module: len(names) for module, names in of_convolutions.items()} != {
        module: len(names) for module, names in of_norms.items()
    }:
        return None
    return {
        name: norm
        for module, names in of_convolutions.items()
        for name, norm in zip(names, of_norms[module], strict=True)
    }
