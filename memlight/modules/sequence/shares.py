"""Members shared among processes: whose is which, and how what each process has becomes that of all members.

Of everything that a sequence training keeps, every tensor with an axis leads with the members'; scalars are of all.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, distributed

from memlight.dist import is_distributed, rank, world_size
from memlight.errors import UserError


class IndependentMembers(DDPStrategy):
    """Lightning's processes as of DDP, one device each; no weight and no gradient is exchanged between them."""

    def configure_ddp(self) -> None:
        """Leave the module unwrapped: DDP would give every process the first one's weights."""


def require_independent(strategy: object) -> None:
    """Refuse a strategy that would mix the members of several processes.

    Raises:
        UserError: it is not `IndependentMembers`, and there is more than one process.
    """
    if world_size() > 1 and not isinstance(strategy, IndependentMembers):
        why = "it would mix the members of several processes"
        way_out = "give the Trainer memlight.modules.sequence.shares.IndependentMembers()"
        raise UserError("strategy", None, why, way_out)


def own_share(members: int) -> slice:
    """Which members this process trains: neighbours, as many as others do or one more or less."""
    return slice(members * rank() // world_size(), members * (rank() + 1) // world_size())


def gathered(own: Any) -> Any:
    """Join what the processes have of their members; every process calls it, and every one gets all, on the CPU.

    Args:
        own: tensors in dicts, lists and tuples, which differ between processes in their tensors alone.

    Returns:
        The same with tensors of all members; ``own`` itself without other processes.
    """
    if not is_distributed():
        return own
    parts: list[Any] = [None] * world_size()
    distributed.all_gather_object(parts, _mapped(Tensor.cpu, own))
    return _joined(parts)


def taken(share: slice, whole: Any) -> Any:
    """Of what `gathered` gives, that of some members; copies, so that the others' are not kept."""
    return _mapped(lambda tensor: tensor[share].clone() if tensor.dim() else tensor, whole)


def _mapped(change: Callable[[Tensor], Tensor], tree: Any) -> Any:
    if isinstance(tree, Tensor):
        return change(tree)
    if isinstance(tree, dict):
        return {key: _mapped(change, value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(_mapped(change, value) for value in tree)
    return tree


def _joined(parts: Sequence[Any]) -> Any:
    first = parts[0]
    if isinstance(first, Tensor):
        return torch.cat(list(parts)) if first.dim() else first
    if isinstance(first, dict):
        return {key: _joined([part[key] for part in parts]) for key in first}
    if isinstance(first, list | tuple):
        return type(first)(_joined(values) for values in zip(*parts, strict=True))
    return first
