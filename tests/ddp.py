"""Run a function in gloo processes that share one process group, and collect what every rank returns."""

import multiprocessing
import pickle
import tempfile
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import distributed

TIMEOUT_SECONDS = 90.0
PRELOADED = [
    *("torchmetrics", "lightning.pytorch", "torchvision", "timm", "scipy.stats", "sklearn.datasets"),
    *("memlight.training.fit", "tests.tiny_pair"),
]
"""What trainings and analyses import."""


def _rank_main(fn: Callable[..., Any], rank: int, world_size: int, store: str, sink: Connection, args: Any) -> None:
    torch.set_num_threads(1)
    try:
        distributed.init_process_group(
            "gloo",
            init_method=f"file://{store}",
            rank=rank,
            world_size=world_size,
            timeout=timedelta(seconds=TIMEOUT_SECONDS),
        )
        try:
            distributed.barrier()  # a rank that is done at once would hang up on one that is still connecting
            payload = (True, fn(*args))
        finally:
            distributed.destroy_process_group()
        sink.send_bytes(pickle.dumps(payload))
    except BaseException:
        sink.send_bytes(pickle.dumps((False, traceback.format_exc())))


def run_ddp(fn: Callable[..., Any], world_size: int = 2, *args: Any) -> list[Any]:
    """Call ``fn(*args)`` in every rank of a fresh gloo group.

    Args:
        fn: a module-level function (it is pickled by name). Inside, ``torch.distributed`` is initialised;
            the rank is ``torch.distributed.get_rank()``.
        world_size: number of processes.
        *args: picklable arguments, the same for every rank.

    Returns:
        What each rank returned, by rank.

    Raises:
        RuntimeError: when a rank raised (its traceback is in the message) or did not answer in time.
    """
    # A fork server has everything imported once and no threads running: no import per rank, no fork after OpenMP.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    with tempfile.TemporaryDirectory() as folder:
        store = str(Path(folder) / "store")
        ranks = []
        for rank in range(world_size):
            source, sink = context.Pipe(duplex=False)
            process = context.Process(target=_rank_main, args=(fn, rank, world_size, store, sink, args))
            process.start()
            sink.close()
            ranks.append((process, source))
        try:
            return [_answer(rank, source) for rank, (_, source) in enumerate(ranks)]
        finally:
            for process, source in ranks:
                source.close()
                process.join(timeout=5)
                if process.is_alive():
                    process.kill()
                    process.join()
                process.close()


def _answer(rank: int, source: Connection) -> Any:
    try:
        if not source.poll(TIMEOUT_SECONDS):
            raise RuntimeError(f"rank {rank} did not answer in {TIMEOUT_SECONDS:.0f} s")
        fine, value = pickle.loads(source.recv_bytes())
    except EOFError:
        raise RuntimeError(f"rank {rank} ended without an answer") from None
    if not fine:
        raise RuntimeError(f"rank {rank} failed:\n{value}")
    return value
