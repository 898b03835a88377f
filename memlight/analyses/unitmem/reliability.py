"""How far UnitMem depends on the views that were drawn and on the number of images."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from memlight.metrics.functional import unitmem_from_extremes
from memlight.metrics.unitmem import UnitMemResult
from memlight.storage.tables import Table


def split_half(result: UnitMemResult) -> float:
    """Rank correlation over living units between the scores from the first and from the second half of the views.

    Returns:
        Spearman's rho; NaN with one view, or when fewer than two units live or all score alike.
    """
    if result.halves is None:
        return float("nan")
    first, second = result.halves[:, ~result.dead].cpu().numpy()
    if len(first) < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    return float(stats.spearmanr(first, second).statistic)


def unitmem_curve(results: Mapping[str, UnitMemResult], sizes: Sequence[int], seed: int = 0) -> Table:
    """Mean UnitMem of living units against the number of images, on nested random subsets.

    The score of pure noise grows with the number of images, so two scores compare only at equal numbers.

    Args:
        results: layer -> result with its table of mu (``keep_table=True``).
        sizes: numbers of images, each at least 2; those beyond what there is are left out.
        seed: of the order in which images join.

    Returns:
        Columns ``layer``, ``n`` and ``mean``.
    """
    rows = [
        (layer, n, mean)
        for layer, result in results.items()
        for n, mean in zip(*_curve(result, sizes, seed), strict=True)
    ]
    layers, numbers, means = zip(*rows, strict=True) if rows else ((), (), ())
    return {"layer": np.array(layers, dtype=np.str_), "n": np.array(numbers), "mean": np.array(means)}


def _curve(result: UnitMemResult, sizes: Sequence[int], seed: int) -> tuple[list[int], list[float]]:
    if result.mu is None:
        raise ValueError("the table of mu is needed: measure with keep_table=True")
    taken = sorted({size for size in sizes if 2 <= size <= result.n})
    order = torch.from_numpy(np.random.default_rng(seed).permutation(result.n)).to(result.mu.device)
    mu = result.mu[order][:, ~result.dead]
    return taken, [float(_score(mu[:size]).mean()) for size in taken]


def _score(mu_NU: Tensor) -> Tensor:
    mu_max = mu_NU.amax(0).double()
    return unitmem_from_extremes(mu_max, (mu_NU.sum(0, dtype=torch.float64) - mu_max) / (len(mu_NU) - 1))
