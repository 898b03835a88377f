"""Where an analysis runs: its device, and the processes that torchrun or srun started for it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import distributed

from memlight.errors import UserError
from memlight.runs.launch import launch


@contextmanager
def process_group(device: str) -> Iterator[torch.device]:
    """This process's device, with a process group around it when torchrun or srun started several.

    Raises:
        UserError: there is no such device.
    """
    here = launch()
    if here is None or here.processes == 1 or distributed.is_initialized():
        yield _device(device, None)
        return
    chosen = _device(device, here.local_rank)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    backend = "nccl" if chosen.type == "cuda" else "gloo"
    distributed.init_process_group(backend, here.init_method, world_size=here.processes, rank=here.rank)
    try:
        yield chosen
    finally:
        distributed.destroy_process_group()


def _device(name: str, local_rank: int | None) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda", "mps") or (device.type == "mps" and not torch.backends.mps.is_available()):
        raise UserError("device", name, "no such device here", "use auto, cpu, cuda or cuda:1")
    if device.type == "cuda" and local_rank is not None:
        device = torch.device("cuda", local_rank)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError("device", name, f"{torch.cuda.device_count()} GPU(s) are visible here")
    return device
