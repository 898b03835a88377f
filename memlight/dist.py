"""Rank, world size and gathering, with one process as the ordinary case."""

from collections.abc import Callable

import torch
from torch import Tensor, distributed


def is_distributed() -> bool:
    """Whether a process group with more than one process is up."""
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def rank() -> int:
    """This process's number, 0 without a process group."""
    return distributed.get_rank() if is_distributed() else 0


def world_size() -> int:
    """Number of processes, 1 without a process group."""
    return distributed.get_world_size() if is_distributed() else 1


def barrier() -> None:
    """Wait for every process; nothing without a process group."""
    if is_distributed():
        distributed.barrier()


def on_first(do: Callable[[], object], refusal: type[Exception]) -> None:
    """Do something on the first process alone; what is refused there is refused on every process.

    Args:
        do: what only one process may do; not called on the others.
        refusal: the kind of error by which ``do`` refuses; it is raised on every process, and must be picklable.
    """
    refused: Exception | None = None
    if rank() == 0:
        try:
            do()
        except refusal as error:
            refused = error
    if is_distributed():
        found = [refused]
        distributed.broadcast_object_list(found, src=0)
        refused = found[0]
    if refused is not None:
        raise refused


def gather_cat(tensor: Tensor) -> Tensor:
    """Concatenate the processes' tensors along dimension 0, in rank order, on every process.

    Args:
        tensor: ``(n, ...)``; ``n`` may differ between processes (0 included), the rest and the dtype may not.

    Returns:
        ``(sum of n, ...)``, without gradient; the tensor itself without a process group.
    """
    if not is_distributed():
        return tensor
    tensor = tensor.detach()
    length = torch.tensor([tensor.shape[0]], device=tensor.device)
    lengths = [torch.zeros_like(length) for _ in range(world_size())]
    distributed.all_gather(lengths, length)
    longest = int(torch.cat(lengths).max())
    padded = tensor.new_zeros((longest, *tensor.shape[1:]))
    padded[: tensor.shape[0]] = tensor
    gathered = [torch.empty_like(padded) for _ in range(world_size())]
    distributed.all_gather(gathered, padded)
    return torch.cat([part[: int(n)] for part, n in zip(gathered, lengths, strict=True)])
