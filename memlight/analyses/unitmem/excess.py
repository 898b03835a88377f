"""How far UnitMem exceeds what exchangeable images would score: by unit, and for a layer with an interval."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from memlight.metrics.null import null_draw, unitmem_null
from memlight.metrics.unitmem import UnitMemResult
from memlight.stats import Interval, clustered_mean


def layer_null(result: UnitMemResult) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """`unitmem_null` of a layer's units: expected score and its 95th percentile, ``(U,)``, NaN for dead units."""
    alive = ~_array(result.dead)
    null, p95 = np.full((2, len(alive)), np.nan)
    null[alive], p95[alive] = unitmem_null(_array(result.tail_mu)[:, alive], _array(result.mu_rest)[alive], result.n)
    return null, p95


def layer_null_draw(result: UnitMemResult, seed: int) -> NDArray[np.float64]:
    """`null_draw` of a layer's units, ``(U,)``, NaN for dead units; the same one for the same seed."""
    alive = ~_array(result.dead)
    drawn = np.full(len(alive), np.nan)
    tail, rest = _array(result.tail_mu)[:, alive], _array(result.mu_rest)[alive]
    drawn[alive] = null_draw(tail, rest, result.n, np.random.default_rng(seed))
    return drawn


def layer_excess(result: UnitMemResult) -> Interval:
    """Mean excess of a layer's living units over their null, with its 95 % interval.

    Units that have their strongest image in common are not independent: the interval clusters them by that image.
    """
    alive = ~_array(result.dead)
    excess = (_array(result.unitmem) - layer_null(result)[0])[alive]
    return clustered_mean(excess, _array(result.max_id)[alive])


def _array(values: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = values.cpu().numpy()
    return array
