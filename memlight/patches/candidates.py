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

    Of every ``GROUP`` rows the best alone takes part in a first selection; where no group can beat what a query has
    (which on a CPU is looked at first), nothing is sorted at all.

    Args:
        q_QD: queries.
        x_ND: rows of the same type.
        bias_N: of the same type.
        keep: how many rows for each query.
        floor_Q: only higher scores count.

    Returns:
        Scores ``(Q, keep)`` from the highest, in float32, and rows int64; -inf and -1 where nothing is above the floor.
    """
    queries_at_once, rows_at_once = (1024, 1024) if q_QD.device.type == "cpu" else (16384, 65536)
    scores = torch.full((len(q_QD), keep), float("-inf"), device=q_QD.device)
    rows = torch.full((len(q_QD), keep), -1, dtype=torch.int64, device=q_QD.device)
    tile = q_QD.new_empty(min(queries_at_once, len(q_QD)) * min(rows_at_once, len(x_ND)))
    for start in range(0, len(x_ND), rows_at_once):
        x, bias = x_ND[start : start + rows_at_once], bias_N[start : start + rows_at_once]
        for first in range(0, len(q_QD), queries_at_once):
            part = slice(first, first + queries_at_once)
            q = q_QD[part]
            product = torch.addmm(bias, q, x.T, out=tile[: len(q) * len(x)].view(len(q), len(x)))
            _take(product, scores[part], rows[part], floor_Q[part], start)
    return scores, rows


def _take(product_QN: Tensor, scores_QK: Tensor, rows_QK: Tensor, floor_Q: Tensor, start: int) -> None:
    """Let what is better in one tile take its place among the best, which are changed."""
    keep, width = scores_QK.shape[1], product_QN.shape[1]
    groups = width // GROUP if width % GROUP == 0 else width
    best_QG = product_QN.view(len(product_QN), width // groups, groups).amax(1)
    lowest = torch.maximum(scores_QK[:, -1], floor_Q)
    if product_QN.device.type == "cpu":
        chosen = (best_QG.amax(1) > lowest).nonzero()[:, 0]
        if not len(chosen):
            return
        product_QN, best_QG, lowest = product_QN[chosen], best_QG[chosen], lowest[chosen]
        old_scores, old_rows = scores_QK[chosen], rows_QK[chosen]
    else:
        old_scores, old_rows = scores_QK, rows_QK
    _, group = best_QG.topk(min(keep, groups), dim=1)
    offsets = torch.arange(0, width, groups, device=group.device)
    members = (group[:, :, None] + offsets).flatten(1)
    found = product_QN.gather(1, members).float()
    found = found.masked_fill(found <= lowest[:, None], float("-inf"))
    members = torch.where(found > float("-inf"), members + start, -1)
    new, place = torch.cat([old_scores, found], 1).topk(keep, dim=1)
    rows = torch.cat([old_rows, members], 1).gather(1, place)
    if product_QN.device.type == "cpu":
        scores_QK[chosen], rows_QK[chosen] = new, rows
    else:
        scores_QK.copy_(new)
        rows_QK.copy_(rows)
