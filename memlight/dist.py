"""Rank, world size and gathering, with one process as the ordinary case."""

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


def raise_together(error: Exception | None) -> None:
    """Raise on every process what only the first could find out; nothing where it found nothing.

    Args:
        error: of the first process; that of others is not looked at.
    """
    if is_distributed():
        found = [error]
        distributed.broadcast_object_list(found, src=0)
        error = found[0]
    if error is not None:
        raise error


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
