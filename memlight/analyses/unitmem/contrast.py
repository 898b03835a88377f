"""UnitMem of a pair without the luck of which images are striking, tested over all layers by relabelling."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from memlight.metrics.functional import unitmem_from_extremes
from memlight.metrics.unitmem import UnitMemResult
from memlight.stats import Claim, as_array, claims

Results = Mapping[str, UnitMemResult]
"""Layer -> what was found of its units; layers in execution order."""

_ENTRIES = 1 << 24
"""Entries of the largest temporary tensor."""


class UnitContrast(NamedTuple):
    """Two views of whether units single out the images of their own training set.

    Attributes:
        contrast: ``[UM_f(C) - UM_f(I) + UM_g(I) - UM_g(C)] / 2``, the mean UnitMem on candidate images C and
            independent images I of the candidate encoder f and the independent encoder g; 0 where nothing is
            memorised.
        own_max_share: of the strongest images of all units over C and I together, the share that the encoder was
            trained on, averaged over both; 0.5 where units memorise nothing.
    """

    contrast: Claim
    own_max_share: Claim


def unit_contrasts(
    f_candidate: Results,
    f_independent: Results,
    g_candidate: Results,
    g_independent: Results,
    *,
    draws: int = 1000,
    seed: int = 0,
) -> dict[str, UnitContrast]:
    """Compare what every layer's units do on both members' own images; all layers are tested together.

    Everything comes from relabelling the pooled images, one relabelling for all layers and units and both members at
    once: units share images, so they are not independent, and nor are layers. The layers make up one family for each
    of the two numbers (`memlight.stats.claims`). Dead units are left out.

    Args:
        f_candidate: layer -> of encoder f on the candidate images, with its table of mu (``keep_table=True``).
        f_independent: of f on the independent images.
        g_candidate: of encoder g on the candidate images.
        g_independent: of g on the independent images.
        draws: relabellings.
        seed: of the relabellings.

    Raises:
        ValueError: when tables were not kept, or the members saw different images.
    """
    contrasts, shares = [], []
    first = next(iter(f_candidate))
    count = f_candidate[first].n
    labels = relabellings(count, count + f_independent[first].n, draws, seed).to(f_candidate[first].ids.device)
    for layer, result in f_candidate.items():
        mu_f, ids = pooled(result, f_independent[layer])
        mu_g, ids_g = pooled(g_candidate[layer], g_independent[layer])
        if not torch.equal(ids, ids_g):
            raise ValueError("the two members were measured on different images")
        candidate_f, independent_f, share_f = _by_label(mu_f, ids, labels)
        candidate_g, independent_g, share_g = _by_label(mu_g, ids, labels)
        contrasts.append(as_array(candidate_f - independent_f + independent_g - candidate_g) / 2)
        shares.append(as_array(share_f + 1 - share_g) / 2)
    families = (_claims(np.stack(contrasts, axis=1), 0.0), _claims(np.stack(shares, axis=1), 0.5))
    return {layer: UnitContrast(*pair) for layer, pair in zip(f_candidate, zip(*families, strict=True), strict=True)}


def _claims(statistics_RL: NDArray[np.float64], expected: float) -> list[Claim]:
    """Of statistics under the true labels, in the first row, and under each relabelling."""
    return claims(statistics_RL[0], statistics_RL[1:], expected)


def pooled(candidate: UnitMemResult, independent: UnitMemResult) -> tuple[Tensor, Tensor]:
    """Activations mu of all images ``(N, U)`` and their ids, those of the first result first.

    Raises:
        ValueError: a table of mu was not kept.
    """
    if candidate.mu is None or independent.mu is None:
        raise ValueError("the table of mu is needed: measure with keep_table=True")
    return torch.cat([candidate.mu, independent.mu]), torch.cat([candidate.ids, independent.ids])


def relabellings(candidates: int, images: int, draws: int, seed: int) -> Tensor:
    """Which images count as candidates: ``(1 + draws, N)`` bool, the true labels first."""
    true = np.arange(images) < candidates
    shuffled = np.random.default_rng(seed).permuted(np.tile(true, (draws, 1)), axis=1)
    return torch.from_numpy(np.concatenate([true[None], shuffled]))


def _by_label(mu_NU: Tensor, ids_N: Tensor, labels_RN: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean UnitMem on candidates and on the others, and candidates' share of the maxima, under each labelling."""
    mu_NU = mu_NU[:, (mu_NU != 0).any(0)]
    images = mu_NU.shape[0]
    candidates = int(labels_RN[0].sum())
    by_id = ids_N.argsort()
    strength, row = mu_NU[by_id].sort(dim=0, descending=True, stable=True)
    # So many of the strongest images that a label is missing among them once in 1e12 relabellings.
    depth = math.ceil(math.log(1e-12) / math.log(max(candidates, images - candidates) / images))
    strength, row = strength[:depth].double(), by_id[row[:depth]]
    mu_NU = mu_NU.double()
    total = mu_NU.sum(0)
    means = []
    step = max(1, _ENTRIES // max(1, row.numel()))
    for start in range(0, len(labels_RN), step):
        labels = labels_RN[start : start + step]
        is_candidate = labels[:, row]
        sum_c = labels.double() @ mu_NU
        max_c = _first(strength, is_candidate)
        max_i = _first(strength, ~is_candidate)
        score_c = unitmem_from_extremes(max_c, (sum_c - max_c) / (candidates - 1))
        score_i = unitmem_from_extremes(max_i, (total - sum_c - max_i) / (images - candidates - 1))
        share = is_candidate[:, 0].double()
        means.append(torch.stack([score_c.mean(1), score_i.mean(1), share.mean(1)]))
    candidate, independent, share = torch.cat(means, dim=1)
    return candidate, independent, share


def _first(strength_KU: Tensor, marked_RKU: Tensor) -> Tensor:
    position = marked_RKU.to(torch.uint8).argmax(1)
    return strength_KU.gather(0, position)
