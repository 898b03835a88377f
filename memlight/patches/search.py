"""The exact nearest patches: fast candidates, direct differences, and a proof that nothing was left out.

Every piece of the index is searched in three steps. A matrix product gives a few candidates for each query. Their
distances are then computed anew, from direct differences of the stored vectors in float64, rounded to float32. Last,
the lowest score among the candidates and a bound of its error say how near any other row can be; the queries for which
that is not farther than the k-th nearest found are searched again, taking every row that can matter. So the result is
that of comparing every pair, whatever the precision of the product, and ties go to the lowest row.
"""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from memlight.patches.candidates import faiss_candidates, torch_candidates
from memlight.patches.index import Index, ReadAhead, Rows
from memlight.patches.nearest import Nearest, SearchProgress
from memlight.patches.space import Metric, Space

Backend = Literal["torch", "faiss"]
Product = torch.dtype | None

MORE = {torch.float32: 3, torch.float16: 32}
"""Candidates beyond k, by the type of the product: with more, fewer queries are searched twice."""


@dataclass(frozen=True)
class Neighbours:
    """The nearest rows of every query.

    Attributes:
        distances: ``(Q, k)`` float32, ascending; infinity where the index has fewer than k rows.
        indices: ``(Q, k)`` int64 rows of the index; -1 where it has fewer than k rows.
        read_seconds: what reading the index took, summed over devices.
        wait_seconds: of that, what the search had to wait for.
        widened: how often a query was searched again in a piece, because its candidates did not settle it.
    """

    distances: NDArray[np.float32]
    indices: NDArray[np.int64]
    read_seconds: float = 0.0
    wait_seconds: float = 0.0
    widened: int = 0


def nearest_patches(
    queries: Rows,
    index: Rows,
    k: int = 1,
    metric: Metric = "l2",
    backend: Backend = "torch",
    device: torch.device | str | None = None,
    *,
    product: Product = None,
    saved: SearchProgress | None = None,
    progress: bool = False,
) -> Neighbours:
    """The k nearest rows of an index for every query, exactly.

    Args:
        queries: ``(Q, D)`` array, tensor or store; kept on the device.
        index: ``(N, D)`` array, tensor or store; read piece by piece, each while the one before is searched.
        k: how many rows for each query.
        metric: l2 (a distance, not its square), cosine (1 minus the cosine) or l2_normalized; see
            `memlight.patches.space.Space`.
        backend: what finds the candidates; the result is the same.
        device: cpu, cuda, cuda:1; None is all GPUs (each searches a share of the shards), or the CPU without one.
        product: float32 or float16, in which torch multiplies; None is float32 on a CPU, float16 on a GPU.
        saved: keeps what was found after every shard, and goes on from there.
        progress: show a bar.

    Returns:
        Distances, ascending, and rows; equal distances by ascending row.

    Raises:
        UserError: a row is not finite, or has no direction.
        ValueError: queries and index have different widths, or k < 1.
    """
    devices = [torch.device(device)] if device is not None else available_devices()
    wanted, searched = Index(queries), Index(index)
    if wanted.dim != searched.dim:
        raise ValueError(f"queries have {wanted.dim} numbers, the index {searched.dim}")
    if k < 1:
        raise ValueError(f"k must be 1 or more, got {k}")
    found = saved.load() if saved is not None else Nearest.none(wanted.num_rows, k)
    done = saved.done if saved is not None else frozenset()
    shards = [shard for shard in range(len(searched.shards)) if shard not in done]
    devices = devices[: max(1, len(shards))]
    raw = wanted.all(torch.device("cpu"))
    space = Space.around(metric, raw)
    rows = sum(searched.shards[shard][1] for shard in shards)
    with (
        tqdm(total=rows, desc="searching", unit="row", unit_scale=True, disable=not progress) as bar,
        ThreadPoolExecutor(len(devices), "search") as pool,
    ):
        workers = [_Worker(one, raw, space, found, backend, product) for one in devices]
        shares = [shards[number :: len(devices)] for number in range(len(devices))]
        stop = threading.Event()
        running = [
            pool.submit(worker.search, searched, share, bar, saved, stop)
            for worker, share in zip(workers, shares, strict=True)
        ]
        try:
            for work in running:
                work.result()
        finally:
            stop.set()  # ctrl-C, or an error on one device: the others end after their piece
    cpu = torch.device("cpu")
    for worker in workers:
        found = found.merged(worker.found.to(cpu))
    return Neighbours(
        found.distances.numpy(),
        found.rows.numpy(),
        sum(worker.read_seconds for worker in workers),
        sum(worker.wait_seconds for worker in workers),
        sum(worker.widened for worker in workers),
    )


def available_devices() -> list[torch.device]:
    """All GPUs, or the CPU where there is none."""
    gpus = [torch.device("cuda", number) for number in range(torch.cuda.device_count())]
    return gpus or [torch.device("cpu")]


class _Worker:
    """One device with all queries, which searches a share of the shards."""

    def __init__(
        self, device: torch.device, queries_QD: Tensor, space: Space, found: Nearest, backend: Backend, product: Product
    ) -> None:
        self._raw, self._space, found = queries_QD.to(device), space.to(device), found.to(device)
        product = product or (torch.float32 if device.type == "cpu" else torch.float16)
        on_faiss = backend == "faiss"
        self._find = faiss_candidates(self._space, device) if on_faiss else torch_candidates(self._space, product)
        self._more = MORE[product]
        self._embedded = self._space.embed(self._raw, "queries")
        self._norms: Tensor = torch.linalg.vector_norm(self._embedded, dim=1, dtype=torch.float64)
        self.found = found
        self.read_seconds = self.wait_seconds = 0.0
        self.widened = 0

    def search(
        self,
        index: Index,
        shards: Sequence[int],
        bar: "tqdm[Any]",
        saved: SearchProgress | None,
        stop: threading.Event,
    ) -> None:
        reader = ReadAhead(index, self._raw.device)
        with torch.inference_mode():
            for piece, rows in reader.pieces(index.pieces(shards)):
                self._search_piece(rows.float(), piece.first)
                bar.update(piece.count)
                if piece.last and saved is not None:
                    saved.add(piece.shard, self.found)
                if stop.is_set():
                    break
        self.read_seconds, self.wait_seconds = reader.read_seconds, reader.wait_seconds

    def _search_piece(self, raw_ND: Tensor, first: int) -> None:
        before, k = self.found, self.found.k
        if not len(self._raw):
            return
        embedded = self._space.embed(raw_ND, "index", first)
        keep = min(k + self._more, len(raw_ND))
        needed = self._needed(before)
        scores, rows, error = self._find(self._embedded, embedded, keep, needed)
        enough = scores[:, min(k, keep) - 1].double() - 3 * error  # below are k rows nearer, also after rounding
        matter = (rows >= 0) & (scores.double() >= torch.maximum(needed - error, enough)[:, None])
        query, place = matter.nonzero(as_tuple=True)
        distances = torch.full(scores.shape, float("inf"), device=scores.device)
        distances[query, place] = self._exact(raw_ND, query, rows[query, place])
        self.found = before.joined(distances, torch.where(matter, rows + first, -1))
        if keep == len(raw_ND):
            return
        nearest_left_out = self._norms.square() - 2 * (scores[:, -1].double() + error)
        settled = self._space.distance(nearest_left_out.clamp(min=0)) > self.found.distances[:, -1]
        unsettled = ((rows[:, -1] >= 0) & ~settled).nonzero()[:, 0]
        self.widened += len(unsettled)
        for start in range(0, len(unsettled), self._at_once):
            self._search_again(unsettled[start : start + self._at_once], raw_ND, embedded, first, before)

    @property
    def _at_once(self) -> int:
        return 256 if self._raw.device.type == "cpu" else 2048

    def _needed(self, found: Nearest) -> Tensor:
        """The score ``(Q,)`` at which a row is as near as the k-th found so far."""
        return (self._norms.square() - self._space.largest_squared(found.distances[:, -1])) / 2

    def _exact(self, raw_ND: Tensor, query_P: Tensor, row_P: Tensor) -> Tensor:
        return self._space.distance(self._space.squared(self._raw, raw_ND, query_P, row_P))

    def _search_again(self, queries: Tensor, raw_ND: Tensor, embedded_ND: Tensor, first: int, before: Nearest) -> None:
        """Search a piece for a few queries, with the exact distance of every row that may be among the k nearest."""
        norms = torch.linalg.vector_norm(embedded_ND, dim=1)
        error = self._space.error(self._norms[queries], norms.max())
        floor = (self._needed(self.found)[queries] - error)[:, None]
        best = before.of(queries)
        for start in range(0, len(raw_ND), 4096):
            rows = embedded_ND[start : start + 4096]
            scores = torch.addmm(-norms[start : start + 4096].square() / 2, self._embedded[queries], rows.T)
            query, row = (scores.double() >= floor).nonzero(as_tuple=True)
            row = row + start
            best = best.with_pairs(query, self._exact(raw_ND, queries[query], row), row + first)
        self.found.replace(queries, best)
