"""How far UnitMem exceeds what exchangeable images would score, and images that are exchangeable by construction."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from memlight.batch import ImageBatch, ViewMaker
from memlight.metrics.null import LayerTail, layer_tail, null_draw, unitmem_null
from memlight.metrics.unitmem import UnitMemResult
from memlight.stats import Interval, as_array, clustered_mean, mean_of


def layer_null(result: UnitMemResult) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """`unitmem_null` of a layer's units: expected score and its 95th percentile, ``(U,)``, NaN for dead units."""
    alive, tail, rest = _living(result)
    null, p95 = np.full((2, len(alive)), np.nan)
    null[alive], p95[alive] = unitmem_null(tail, rest, result.n)
    return null, p95


def tail_of(result: UnitMemResult) -> LayerTail:
    """`layer_tail` of a layer's living units: whether the 95th percentiles of `layer_null` are to be trusted."""
    return layer_tail(_living(result)[1], result.n)


def share_above(result: UnitMemResult) -> float:
    """Share of a layer's living units that score above the 95th percentile of their own null; NaN without a null."""
    p95 = layer_null(result)[1]
    return mean_of((as_array(result.unitmem_mean) > p95)[np.isfinite(p95)])


def layer_null_draw(result: UnitMemResult, seed: int) -> NDArray[np.float64]:
    """`null_draw` of a layer's units, ``(U,)``, NaN for dead units; the same one for the same seed."""
    alive, tail, rest = _living(result)
    draws = np.full(len(alive), np.nan)
    draws[alive] = null_draw(tail, rest, result.n, np.random.default_rng(seed))
    return draws


def _living(result: UnitMemResult) -> tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.float64]]:
    """Which units live, ``(U,)``; of those mu of the strongest images, ``(T, L)``, and the mean of others, ``(L,)``."""
    alive = ~as_array(result.dead)
    return alive, as_array(result.tail_mu)[:, alive], as_array(result.mu_rest_mean)[alive]


def layer_excess(result: UnitMemResult) -> Interval:
    """Mean excess of a layer's living units over their null, with its 95 % interval.

    Units that have their strongest image in common are not independent: the interval clusters them by that image.
    """
    alive = ~as_array(result.dead)
    excess = (as_array(result.unitmem_mean) - layer_null(result)[0])[alive]
    return clustered_mean(excess, as_array(result.max_id)[alive])


def shuffled_views(
    make_views: ViewMaker,
    images_of: Callable[[NDArray[np.int64]], Tensor],
    ids: Sequence[int] | NDArray[np.int64],
    seed: int = 0,
) -> ViewMaker:
    """Give every view of an image to another image of the set, drawn anew for each view.

    A unit's mu then averages over views of different images and belongs to none of them, so that no image can be
    special: UnitMem measured with these views exceeds its null by chance alone. Each view of each image is used
    exactly once, and what an image gets does not depend on the batch it comes in.

    Args:
        make_views: makes the views of a batch.
        images_of: data set ids -> ``uint8 (B, 3, H, W)``.
        ids: all images of the set, without repetition.
        seed: of the permutations, one for each view.
    """
    pool = np.sort(np.asarray(ids, dtype=np.int64))

    def make(batch: ImageBatch, view: int) -> Tensor:
        order = np.random.default_rng([seed, view]).permutation(len(pool))
        others = pool[order[np.searchsorted(pool, batch.ids.cpu().numpy())]]
        device = batch.images.device
        return make_views(
            batch._replace(images=images_of(others).to(device), ids=batch.ids.new_tensor(others.tolist())), view
        )

    return make
