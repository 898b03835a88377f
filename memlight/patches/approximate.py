"""Approximate search with a faiss index, for collections where comparing every pair takes too long; with its recall."""

from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm

from memlight.errors import UserError
from memlight.patches.index import Index, Rows
from memlight.patches.nearest import Nearest
from memlight.patches.search import Neighbours, nearest_patches
from memlight.patches.space import Metric, Space

TRAINING_ROWS = 1 << 18
"""Rows that the index learns its cells from, evenly spaced."""

SAMPLE = 256
"""Queries that are searched exactly as well, evenly spaced."""

MORE = 4
"""Candidates for each neighbour, whose distances are computed anew."""


@dataclass(frozen=True)
class Recall:
    """How much of the exact result an approximate search has found, on a sample of the queries.

    Attributes:
        first: share of queries whose nearest patch was found.
        among_k: share of the k nearest that are among the k found.
        queries: number of queries that were compared.
    """

    first: float
    among_k: float
    queries: int


def approximate_patches(
    queries: Rows,
    index: Rows,
    factory: str,
    k: int = 1,
    metric: Metric = "l2",
    device: torch.device | str | None = None,
    *,
    nprobe: int = 16,
    progress: bool = False,
) -> tuple[Neighbours, Recall]:
    """The nearest rows that a faiss index finds, with exact distances.

    Args:
        queries: ``(Q, D)`` array, tensor or store.
        index: ``(N, D)`` array, tensor or store; the faiss index of it is built in memory.
        factory: name of a faiss index, such as IVF1024,Flat or IVF1024,PQ32.
        k: how many rows for each query.
        metric: ``l2``, ``cosine`` or ``l2_normalized``, as for `memlight.patches.search.nearest_patches`.
        device: cuda to use all GPUs; None is the CPU.
        nprobe: cells that are searched.
        progress: show bars.

    Returns:
        Neighbours, and their recall against exact search on a sample.

    Raises:
        UserError: faiss has no such index, or cannot train it on so few rows.
    """
    import faiss

    cpu = torch.device("cpu")
    wanted, searched = Index(queries), Index(index)
    raw = wanted.all(cpu)
    space = Space.around(metric, raw)
    spread = np.unique(np.linspace(0, searched.num_rows - 1, min(TRAINING_ROWS, searched.num_rows)).round())
    try:
        built = faiss.index_factory(searched.dim, factory)
        built.train(space.embed(searched.take(spread.astype(np.int64)), "index").numpy())
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        why = f"faiss cannot build it of {searched.num_rows} rows ({reason})"
        raise UserError("factory", factory, why) from error
    if on_gpu := device is not None and torch.device(device).type == "cuda":
        built = faiss.index_cpu_to_all_gpus(built)
    pieces = searched.pieces(range(len(searched.shards)))
    for piece in tqdm(pieces, desc="indexing", disable=not progress):
        built.add(space.embed(searched.read(piece, cpu).float(), "index", piece.first).numpy())
    if factory.startswith("IVF"):
        parameters = faiss.GpuParameterSpace() if on_gpu else faiss.ParameterSpace()
        parameters.set_index_parameter(built, "nprobe", nprobe)
    _, found = built.search(space.embed(raw, "queries").numpy(), min(MORE * k, searched.num_rows))
    query, place = np.nonzero(found >= 0)
    rows = torch.from_numpy(found[query, place])
    unique, row = torch.unique(rows, return_inverse=True)
    vectors = searched.take(unique.numpy())
    query_P = torch.from_numpy(query)
    distances = space.distance(space.squared(raw, vectors, query_P, row))
    best = Nearest.none(wanted.num_rows, k).with_pairs(query_P, distances, rows)
    neighbours = Neighbours(best.distances.numpy(), best.rows.numpy())
    return neighbours, _recall(neighbours, raw, index, k, metric)


def _recall(found: Neighbours, raw_QD: torch.Tensor, index: Rows, k: int, metric: Metric) -> Recall:
    sample = np.unique(np.linspace(0, len(raw_QD) - 1, min(SAMPLE, len(raw_QD))).round().astype(np.int64))
    exact = nearest_patches(raw_QD[torch.from_numpy(sample)], index, k, metric)
    ours = found.indices[sample]
    first = float((ours[:, 0] == exact.indices[:, 0]).mean())
    among = float((exact.indices[:, :, None] == ours[:, None, :]).any(2).mean())
    return Recall(first, among, len(sample))
