"""How much of a rank correlation each image accounts for, so that groups of images can be compared like means.

`memlight.stats.family` compares means of two groups. A rank correlation, and the difference between the top and the
bottom fifth by a measure, are written here as means over images: of their pseudo-values, the statistic itself plus the
influence of one image on it. The variance of that mean is the statistic's, to first order, also where the correlation
is far from 0 and where there are ties.
"""

from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

Floats = NDArray[np.float64]

FIFTHS = 5


def spearman_parts(score_NL: ArrayLike, measure_NM: ArrayLike) -> Floats:
    """Pseudo-values of Spearman's rank correlation of every score with every measure.

    With F and G the mid-ranks over N, shifted so that their mean is a half, rho is a ratio of moments of F and G. The
    influence of image i on ``A = mean of F G`` is ``F_i G_i + mean_j [x_j > x_i] G_j + mean_j [y_j > y_i] F_j - 3 A``
    (half where they are equal), and on the second moments of F and G accordingly; the rest is the rule for a ratio.

    Args:
        score_NL: ``(N, L)`` a column for each layer.
        measure_NM: ``(N, M)`` a column for each measure of the same images.

    Returns:
        ``(N, L, M)``, whose mean over N is Spearman's rho; NaN where a column is constant.
    """
    f, g = _midranks(score_NL), _midranks(measure_NM)
    fg, second_f, second_g = f.T @ g / len(f), (f**2).mean(0), (g**2).mean(0)
    g_above, f_above_itself = _above(f, g)
    f_above, g_above_itself = _above(g, f)
    of_product = f[:, :, None] * g[:, None, :] + g_above + f_above.transpose(0, 2, 1) - 3 * fg
    of_f = f**2 + 2 * f_above_itself - 3 * second_f
    of_g = g**2 + 2 * g_above_itself - 3 * second_g
    with np.errstate(divide="ignore", invalid="ignore"):
        spread_f, spread_g = (
            np.where(np.ptp(ranks, axis=0) > 0, (ranks**2).mean(0) - 0.25, np.nan) for ranks in (f, g)
        )
        scale = np.sqrt(spread_f[:, None] * spread_g)
        rho = (fg - 0.25) / scale
        parts: Floats = rho + of_product / scale
        parts -= rho / 2 * ((of_f / spread_f)[:, :, None] + (of_g / spread_g)[:, None, :])
    return parts


def _midranks(values_NK: ArrayLike) -> Floats:
    """Ranks from 0 to 1, equal for equal values, with mean 1/2 in every column."""
    values = np.asarray(values_NK, dtype=np.float64)
    ranks: Floats = (rankdata(values, axis=0) - 0.5) / len(values)
    return ranks


def _above(keys_NK: Floats, values_NV: Floats) -> tuple[Floats, Floats]:
    """Mean over images j of ``[key_j > key_i] value_j``, half where keys are equal.

    Returns:
        Of every column of values, ``(N, K, V)``, and of the keys themselves, ``(N, K)``.
    """
    images, columns = keys_NK.shape
    sums = np.empty((images, columns, values_NV.shape[1] + 1))
    for column, keys in enumerate(keys_NK.T):
        order = np.argsort(keys, kind="stable")
        values = np.column_stack([values_NV, keys])[order]
        cumulated = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values, axis=0)])
        low, high = (np.searchsorted(keys[order], keys, side=side) for side in ("left", "right"))
        sums[:, column] = cumulated[-1] - (cumulated[low] + cumulated[high]) / 2
    sums /= images
    return sums[:, :, :-1], sums[:, :, -1]


def fifths_parts(score_NL: ArrayLike, measure_NM: ArrayLike) -> Floats:
    """Pseudo-values of the mean score of the top fifth by a measure minus that of the bottom fifth.

    A fifth is N // 5 images, at least one. Of images that a border divides, all equal in the measure, each counts in
    part: the statistic does not depend on their order.

    Args:
        score_NL: ``(N, L)`` a column for each layer.
        measure_NM: ``(N, M)`` a column for each measure of the same images.

    Returns:
        ``(N, L, M)``, whose mean over N is the difference; NaN where a measure is constant.
    """
    score = np.asarray(score_NL, dtype=np.float64)
    weights = fifths(measure_NM)
    top, bottom = (_weighted(score, weights[fifth]) for fifth in (FIFTHS - 1, 0))
    varies = np.ptp(np.asarray(measure_NM, dtype=np.float64), axis=0) > 0
    return np.where(varies, top - bottom, np.nan)


def fifths_means_parts(score_NL: ArrayLike, measure_N: ArrayLike) -> Floats:
    """Pseudo-values of the mean score of every fifth by one measure: ``(5, N, L)``, from the lowest fifth."""
    score = np.asarray(score_NL, dtype=np.float64)
    weights_FN1 = fifths(np.asarray(measure_N, dtype=np.float64)[:, None])
    return np.stack([_weighted(score, weights)[:, :, 0] for weights in weights_FN1])


def fifths(measure_NM: ArrayLike) -> Floats:
    """How far each image belongs to each fifth by a measure, from the lowest: ``(5, N, M)``, 1, 0 or between.

    Places are shared out evenly among images that are equal in the measure. The first and the last fifth have N // 5
    images, at least one, and so have the others but for what is left over.
    """
    measure = np.asarray(measure_NM, dtype=np.float64)
    images = len(measure)
    size = max(1, images // FIFTHS)
    left = np.clip(images - 2 * size, 0, None)
    borders = np.cumsum([0, size, *(left // 3 + (left % 3 > place) for place in range(3)), size])
    low, high = (rankdata(measure, method=method, axis=0) for method in ("min", "max"))
    start, end = low - 1, high  # the places that an image's equals take together
    return np.stack(
        [
            np.clip(np.minimum(end, upper) - np.maximum(start, lower), 0, None) / (end - start)
            for lower, upper in pairwise(borders)
        ]
    )


def _weighted(score_NL: Floats, weights_NM: Floats) -> Floats:
    """Pseudo-values ``(N, L, M)`` of the mean score under weights."""
    share = weights_NM.mean(0)
    mean = score_NL.T @ weights_NM / len(score_NL) / share
    parts: Floats = mean + (score_NL[:, :, None] - mean) * (weights_NM / share)[:, None, :]
    return parts
