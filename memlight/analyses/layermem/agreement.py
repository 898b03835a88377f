"""Do two rankings of the same images agree: Kendall's tau-b and the overlap of their tops. No torch.

A layer ranks images by their score, and so does a training with another seed. Rankings agree for reasons other than
memorisation too (an image can be striking for every encoder), so the same numbers of images that no encoder was
trained on stand beside those of the candidates.
"""

from collections.abc import Mapping
from math import comb

import numpy as np
from numpy.typing import NDArray

from memlight.storage.tables import Table

TOP = 50
"""How many of the highest scores make up a top, as in the paper's top 50; fewer where there are not 100 images."""

RANKED_SPLITS = ("candidate", "external")
"""Splits whose rankings are compared: what one encoder can have memorised, and its control, which neither saw."""

_BLOCK_ENTRIES = 2**20
"""Signs held at once, over all rankings; a power of two below 2**24, up to which float32 counts exactly."""

_TAU_VARIANCE = 0.437
"""Variance of atanh(tau) is this / (n - 4): Fieller, Hartley & Pearson 1957, Biometrika 44, 470."""

_NORMAL_975 = 1.959963984540054


def top_count(count: int) -> int:
    """How many of so many images make up a top."""
    return min(TOP, count // 2)


def kendall_tau(scores_LN: NDArray[np.floating]) -> NDArray[np.float64]:
    """Kendall's tau-b of every two rankings.

        tau_b = (concordant - discordant) / sqrt((pairs not tied in a) * (pairs not tied in b))

    With s_a(i, j) = sign(a_i - a_j) that is sum of s_a s_b / sqrt(sum of s_a^2 * sum of s_b^2): the cosine of two
    vectors of signs, so all pairs of rankings come from one Gram matrix (Kendall 1945, Biometrika 33, 239). Time grows
    with the square of the images: for 60 rankings of 5000, the most that the published protocols have, it is seconds.

    Args:
        scores_LN: a row for each ranking, a column for each image.

    Returns:
        (L, L), symmetrical; NaN for a ranking of which all scores are equal.
    """
    ranks = np.stack([np.unique(scores, return_inverse=True)[1] for scores in scores_LN]).astype(np.float32)
    rankings, count = ranks.shape
    gram = np.zeros((rankings, rankings))
    rows = max(1, _BLOCK_ENTRIES // (rankings * count))
    for start in range(0, count, rows):
        block, end = ranks[:, start : start + rows, None], start + rows
        # Images before the block were compared with it already; pairs within it come twice, as (i, j) and (j, i).
        for others, weight in ((ranks[:, None, end:], 2), (ranks[:, None, start:end], 1)):
            signs = np.clip(block - others, -1, 1).reshape(rankings, -1)
            gram += weight * (signs @ signs.T).astype(np.float64)
    untied = np.sqrt(np.diag(gram))
    with np.errstate(invalid="ignore"):
        tau: NDArray[np.float64] = gram / (untied[:, None] * untied)
    return tau


def tau_interval(tau: NDArray[np.float64], count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """95 % interval of Kendall's tau over images, by the normal approximation of atanh(tau).

    The variance is that of a Gaussian copula with abs(tau) below 0.8 (Fieller, Hartley & Pearson 1957; Bonett & Wright
    2000, Psychometrika 65, 23). Over the layers of a trained pair its standard error was 0.85 to 1.1 times that of a
    bootstrap over images. Both are about other images, not about other trainings.

    Args:
        tau: of any shape.
        count: images ranked; NaN for fewer than 5.
    """
    if count < 5:
        return np.full_like(tau, np.nan), np.full_like(tau, np.nan)
    half = _NORMAL_975 * np.sqrt(_TAU_VARIANCE / (count - 4))
    middle = np.arctanh(np.clip(tau, -1 + 1e-12, 1 - 1e-12))
    return np.tanh(middle - half), np.tanh(middle + half)


def top_overlap(scores_LN: NDArray[np.floating], top: int) -> NDArray[np.float64]:
    """How many images are in the tops of both, for every two rankings; ties go to the earlier column.

    Args:
        scores_LN: a row for each ranking, a column for each image.
        top: size of a top, at most N.

    Returns:
        (L, L), ``top`` on the diagonal; NaN for a ranking of which all scores are equal.
    """
    highest = np.argsort(-scores_LN, axis=1, kind="stable")[:, :top]
    among = np.zeros(scores_LN.shape)
    np.put_along_axis(among, highest, 1, axis=1)
    among[np.ptp(scores_LN, axis=1) == 0] = np.nan
    both: NDArray[np.float64] = among @ among.T
    return both


def chance_overlap(count: int, top: int) -> tuple[float, int]:
    """The overlap of two tops of unrelated rankings, which is hypergeometric.

    Returns:
        Its mean, top * top / count, and its 95th percentile.
    """
    ways, total = 0, comb(count, top)
    for overlap in range(top + 1):
        ways += comb(top, overlap) * comb(count - top, top - overlap)
        if 20 * ways >= 19 * total:
            break
    return top * top / count, overlap


def pairwise_agreement(names: list[str], scores_LN: NDArray[np.floating], kind: str) -> Table:
    """A row for every two rankings of the same images, the earlier one first.

    Args:
        names: of the rankings.
        scores_LN: a row for each ranking, a column for each image.
        kind: what ranks, such as ``layer``: columns ``<kind>_a`` and ``<kind>_b`` hold the names.

    Returns:
        These two, ``n`` images, size ``top`` of a top, ``overlap`` with its ``chance`` and ``chance_p95``, ``tau`` with
        ``tau_low`` and ``tau_high``.
    """
    count = scores_LN.shape[1]
    a, b = np.triu_indices(len(names), 1)
    top = top_count(count)
    chance, chance_p95 = chance_overlap(count, top)
    tau = kendall_tau(scores_LN)[a, b]
    low, high = tau_interval(tau, count)
    same = {"n": count, "top": top, "chance": chance, "chance_p95": chance_p95}
    return {
        f"{kind}_a": np.array(names, dtype=np.str_)[a],
        f"{kind}_b": np.array(names, dtype=np.str_)[b],
        **{name: np.full(len(a), value) for name, value in same.items()},
        "overlap": top_overlap(scores_LN, top)[a, b],
        **{"tau": tau, "tau_low": low, "tau_high": high},
    }


def layer_agreement(scores: Mapping[str, Mapping[str, NDArray[np.floating]]]) -> Table:
    """Every two layers on every split that is compared: the columns of ``layermem/agreement.csv``.

    Args:
        scores: split -> layer -> score of each image, images in the same order in all layers.
    """
    parts = []
    for split in RANKED_SPLITS:
        if split in scores:
            table = pairwise_agreement(list(scores[split]), np.stack(list(scores[split].values())), "layer")
            parts.append({"split": np.full(len(table["n"]), split), **table})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
