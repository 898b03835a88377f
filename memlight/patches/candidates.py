"""The rows with the highest scores, fast and inexactly: one matrix product and a selection that rarely sorts.

The score of a row is ``q.x - |x|^2 / 2``, which is largest where the distance is smallest. Each backend gives the
``keep`` best rows of a piece for every query, and a bound of its scores' errors; the rest is `memlight.patches.search`.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from memlight.patches.space import Space

GROUP = 32
"""Rows of which only the best is looked at before anything is sorted."""

_HALF_UNIT = 2.0**-11
"""Largest relative error of one float16 rounding."""

CandidateFinder = Callable[[Tensor, Tensor, int, Tensor], tuple[Tensor, Tensor, Tensor]]
"""Embedded queries ``(Q, D)`` and rows ``(N, D)``, how many to keep, and the score ``(Q,)`` float64 that a row must
have to matter, to computed scores ``(Q, keep)`` from the highest, float32, their rows (-1 with score -inf where no
more matter), and the bound of the scores' errors ``(Q,)`` float64."""


def torch_candidates(space: Space, product: torch.dtype) -> CandidateFinder:
    """Candidates from a matrix product in torch.

    Args:
        space: of the vectors.
        product: float32, or float16 to multiply on tensor cores.
    """

    def find(q_QD: Tensor, x_ND: Tensor, keep: int, needed_Q: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q_norms, x_norms = (torch.linalg.vector_norm(v, dim=1) for v in (q_QD, x_ND))
        bias = -x_norms.square() / 2
        error = space.error(q_norms, x_norms.max())
        if product == torch.float32:
            return *best_rows(q_QD, x_ND, bias, keep, _below(needed_Q - error)), error
        scale = 1 / torch.maximum(q_norms.max(), x_norms.max()).clamp(min=1e-30)
        q, x = q_QD * scale, x_ND * scale
        low_q, low_x = q.half(), x.half()
        q_norms, x_norm = q_norms.double() * scale, x_norms.max().double() * scale
        q_lost, x_lost = (torch.linalg.vector_norm(v, dim=1).double() for v in (low_q - q, low_x - x))
        lost = q_lost * x_norm + (q_norms + q_lost) * x_lost.max()
        rounded = _HALF_UNIT * (q_norms * x_norm + x_norm.square() + lost) + 2.0**-23
        error = (lost + rounded) / scale.square() + 2 * error
        floor = _below((needed_Q - error) * scale.square())
        scores, rows = best_rows(low_q, low_x, (bias * scale.square()).half(), keep, floor)
        return scores / scale.square(), rows, error

    return find


def _below(values: Tensor) -> Tensor:
    """Float32 numbers that are not above those in float64."""
    return torch.nextafter(values.float(), torch.tensor(float("-inf"), device=values.device))


def faiss_candidates(space: Space, device: torch.device) -> CandidateFinder:
    """Candidates from faiss's brute-force search, on the CPU or one GPU.

    Args:
        space: of the vectors.
        device: whose cores do the work.
    """
    import faiss

    resources = faiss.StandardGpuResources() if device.type == "cuda" else None

    def find(q_QD: Tensor, x_ND: Tensor, keep: int, needed_Q: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        queries, rows, at_most = q_QD.cpu().numpy(), x_ND.cpu().numpy(), min(keep, len(x_ND))
        if resources is None:
            squared, found = faiss.knn(queries, rows, at_most)
        else:
            squared, found = faiss.knn_gpu(resources, queries, rows, at_most, device=device.index or 0)
        q_norms = torch.linalg.vector_norm(q_QD, dim=1)
        scores = (q_norms.double().square()[:, None] - torch.from_numpy(squared).to(device)) / 2
        error = 2 * space.error(q_norms, torch.linalg.vector_norm(x_ND, dim=1).max())
        return scores.float(), torch.from_numpy(found).to(device), error

    return find


def best_rows(q_QD: Tensor, x_ND: Tensor, bias_N: Tensor, keep: int, floor_Q: Tensor) -> tuple[Tensor, Tensor]:
    """The rows with the highest ``q.x + bias``: exactly those of the scores as they are computed.

    Of every ``GROUP`` rows the best alone takes part in a first selection. On a CPU the few groups that beat what a
    query has are set aside, and sorted in once as many rows have been seen again as before.

    Args:
        q_QD: queries.
        x_ND: rows of the same type.
        bias_N: of the same type.
        keep: how many rows for each query.
        floor_Q: only higher scores count.

    Returns:
        Scores ``(Q, keep)`` from the highest, in float32, and rows int64; -inf and -1 where nothing is above the floor.
    """
    on_cpu = q_QD.device.type == "cpu"
    queries_at_once, rows_at_once = (1024, 1024) if on_cpu else (16384, 65536)
    tile = q_QD.new_empty(min(queries_at_once, len(q_QD)) * min(rows_at_once, len(x_ND)))
    found = []
    for first in range(0, len(q_QD), queries_at_once):
        q = q_QD[first : first + queries_at_once]
        best = _Best(keep, floor_Q[first : first + queries_at_once])
        for start in range(0, len(x_ND), rows_at_once):
            x, bias = x_ND[start : start + rows_at_once], bias_N[start : start + rows_at_once]
            product = torch.addmm(bias, q, x.T, out=tile[: len(q) * len(x)].view(len(q), len(x)))
            if on_cpu:
                best.take_few(product, start)
            else:
                best.take(product, start)
        found.append(best.sorted())
    scores, rows = zip(*found, strict=True)
    return torch.cat(scores), torch.cat(rows)


class _Best:
    """The best rows of some queries among the tiles they have been shown.

    Args:
        keep: how many rows for each query.
        floor_Q: only higher scores count.
    """

    def __init__(self, keep: int, floor_Q: Tensor) -> None:
        device = floor_Q.device
        self._lowest = floor_Q
        self._scores = torch.full((len(floor_Q), keep), float("-inf"), device=device)
        self._rows = torch.full((len(floor_Q), keep), -1, dtype=torch.int64, device=device)
        self._waiting: list[tuple[Tensor, Tensor, Tensor]] = []
        self._num_waiting = self._sorted_until = 0

    def take(self, product_QN: Tensor, start: int) -> None:
        """Sort in the best of a tile, whose first row is ``start``."""
        groups, tile_QMG = _grouped(product_QN)
        _, group = tile_QMG.amax(1).topk(min(self._scores.shape[1], groups), dim=1)
        members = (group[:, :, None] + torch.arange(0, product_QN.shape[1], groups, device=group.device)).flatten(1)
        found = product_QN.gather(1, members).float()
        self._merge(found.masked_fill(found <= self._lowest[:, None], float("-inf")), members + start)

    def take_few(self, product_QN: Tensor, start: int) -> None:
        """The same, at once only if there is much that is better than what is here."""
        groups, tile_QMG = _grouped(product_QN)
        query, group = (tile_QMG.amax(1) > self._lowest[:, None]).nonzero(as_tuple=True)
        if len(query) > self._scores.numel():
            self.take(product_QN, start)
        else:
            scores = tile_QMG[query, :, group].float()
            pair, member = (scores > self._lowest[query, None]).nonzero(as_tuple=True)
            self._waiting.append((query[pair], scores[pair, member], group[pair] + member * groups + start))
            self._num_waiting += len(pair)
        seen = start + product_QN.shape[1]
        if seen >= 2 * self._sorted_until or self._num_waiting > 4 * self._scores.numel():
            self._sort_in()
            self._sorted_until = seen

    def sorted(self) -> tuple[Tensor, Tensor]:
        """Scores from the highest, and rows."""
        self._sort_in()
        return self._scores, self._rows

    def _sort_in(self) -> None:
        if not self._num_waiting:
            return
        query, scores, rows = (torch.cat(parts) for parts in zip(*self._waiting, strict=True))
        self._waiting, self._num_waiting = [], 0
        self._merge(*_padded(query, len(self._scores), scores, rows))

    def _merge(self, scores_QC: Tensor, rows_QC: Tensor) -> None:
        scores = torch.cat([self._scores, scores_QC], 1)
        self._scores, place = scores.topk(self._scores.shape[1], dim=1)
        rows = torch.cat([self._rows, rows_QC], 1).gather(1, place)
        self._rows = rows.masked_fill_(self._scores == float("-inf"), -1)
        self._lowest = torch.maximum(self._lowest, self._scores[:, -1])


def _grouped(product_QN: Tensor) -> tuple[int, Tensor]:
    """How many groups a tile has, and the tile as ``(Q, members, groups)``."""
    width = product_QN.shape[1]
    groups = width // GROUP if width % GROUP == 0 else width
    return groups, product_QN.view(len(product_QN), width // groups, groups)


def _padded(query_P: Tensor, queries: int, score_P: Tensor, row_P: Tensor) -> tuple[Tensor, Tensor]:
    """Pairs as a matrix with a line for each query, -inf and -1 where a query has fewer than others."""
    query, order = query_P.sort(stable=True)
    counts = torch.bincount(query, minlength=queries)
    place = torch.arange(len(query), device=query.device) - (counts.cumsum(0) - counts)[query]
    width = int(counts.max())
    scores = score_P.new_full((queries, width), float("-inf"))
    rows = row_P.new_full((queries, width), -1)
    scores[query, place], rows[query, place] = score_P[order], row_P[order]
    return scores, rows
