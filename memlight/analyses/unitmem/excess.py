"""How far UnitMem exceeds what exchangeable images would score, and images that are exchangeable by construction."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from memlight.analyses.unitmem.contrast import Results, pooled, relabellings
from memlight.batch import ImageBatch, ViewMaker
from memlight.metrics.null import TAIL, LayerTail, expected_unitmem, layer_tail, null_draw, unitmem_null
from memlight.metrics.unitmem import UnitMemResult
from memlight.stats import Claim, Interval, as_array, claims, clustered_mean, mean_of


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
    """Mean excess of a layer's living units over their null, with its approximate 95 % interval.

    Units that have their strongest image in common are not independent: the interval clusters them by that image, which
    is most of what they have in common and not all of it. It held 0 in 78 to 91 of 100 cases where images were
    exchangeable, so no claim rests on it; see `excess_over_other`.
    """
    alive = ~as_array(result.dead)
    excess = (as_array(result.unitmem_mean) - layer_null(result)[0])[alive]
    return clustered_mean(excess, as_array(result.max_id)[alive])


class ExcessOverOther(NamedTuple):
    """The excess of one layer beside that on images that are no different but for the training.

    Attributes:
        other: mean excess on the images that only the other member was trained on.
        over_other: the excess on the member's own images minus ``other``; 0 where nothing is memorised.
    """

    other: float
    over_other: Claim


def excess_over_other(own: Results, other: Results, *, draws: int = 199, seed: int = 0) -> dict[str, ExcessOverOther]:
    """Compare how far UnitMem exceeds its null on a member's own images and on those of the other member.

    Which images are whose was dealt at random, so the pooled images are relabelled, one relabelling for all layers, and
    null and excess of both groups made anew in each; the layers make up one family (`memlight.stats.claims`). What the
    null misfits is in both groups alike. `layer_excess` has no such comparison: its clustered interval left out 0 in 9
    to 22 of 100 cases without any memorisation.

    Args:
        own: layer -> of the member on its own images, with its table of mu (``keep_table=True``).
        other: of the same member on the images of the other.
        draws: relabellings; the null is fitted anew in each, so there are fewer than for `unit_contrasts`.
        seed: of the relabellings.

    Raises:
        ValueError: tables were not kept.
    """
    statistics = []
    first = next(iter(own))
    labels = as_array(relabellings(own[first].n, own[first].n + other[first].n, draws, seed))
    for layer, result in own.items():
        mu, _ = pooled(result, other[layer])
        statistics.append(_relabelled_excess(as_array(mu).astype(np.float64), labels))
    excess_RLG = np.stack(statistics, axis=1)
    difference = excess_RLG[..., 0] - excess_RLG[..., 1]
    found = claims(difference[0], difference[1:])
    return {
        layer: ExcessOverOther(float(of_other), claim)
        for layer, of_other, claim in zip(own, excess_RLG[0, :, 1], found, strict=True)
    }


def _relabelled_excess(mu_NU: NDArray[np.float64], labels_RN: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Mean excess on the marked images and on the others under each labelling, ``(R, 2)``, of units that live there."""
    images, marked = labels_RN.shape[1], int(labels_RN[0].sum())
    order = np.argsort(-mu_NU, axis=0, kind="stable")
    strength = np.take_along_axis(mu_NU, order, axis=0)
    total_U = mu_NU.sum(0)
    found = []
    for labels in labels_RN:
        marked_U = labels.astype(np.float64) @ mu_NU
        found.append(
            [
                _mean_excess(strength, order, labels, marked_U, marked),
                _mean_excess(strength, order, ~labels, total_U - marked_U, images - marked),
            ]
        )
    return np.array(found)


def _mean_excess(
    strength_NU: NDArray[np.float64],
    order_NU: NDArray[np.int64],
    chosen_N: NDArray[np.bool_],
    sum_U: NDArray[np.float64],
    count: int,
) -> float:
    """Mean excess of living units on ``count`` chosen images, from all images in each unit's own order."""
    tail = _strongest(strength_NU, order_NU, chosen_N, min(TAIL, count))
    rest = (sum_U - tail[0]) / (count - 1)
    alive = tail[0] + rest > 0
    tail, rest = tail[:, alive], rest[alive]
    score = (tail[0] - rest) / (tail[0] + rest)
    return mean_of(score - expected_unitmem(tail, rest, count))


def _strongest(
    strength_NU: NDArray[np.float64], order_NU: NDArray[np.int64], chosen_N: NDArray[np.bool_], kept: int
) -> NDArray[np.float64]:
    """Each unit's largest mu over the chosen images, ``(kept, U)``, descending."""
    share = chosen_N.mean()
    depth = min(len(chosen_N), int(np.ceil(2 * kept / share)) + 10)
    while True:
        chosen = chosen_N[order_NU[:depth]]
        rank = chosen.cumsum(0, dtype=np.int32)
        if depth == len(chosen_N) or (rank[-1] >= kept).all():
            break
        depth = min(len(chosen_N), 2 * depth)
    first = chosen & (rank <= kept)
    return strength_NU[:depth].T[first.T].reshape(-1, kept).T


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
