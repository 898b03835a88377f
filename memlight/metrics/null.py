"""What UnitMem scores when no image is special: how far the strongest image stands out among exchangeable ones."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

TAIL = 20
"""Strongest images of a unit from which the null is made."""

_SHARE = 5
"""At most one image in so many belongs to the tail."""

_NODES, _WEIGHTS = np.polynomial.laguerre.laggauss(16)


def unitmem_null(tail_KU: ArrayLike, mu_rest_U: ArrayLike, n: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """UnitMem expected of a layer's units if the strongest image were one more draw from the tail of the others.

    With X_1 > X_2 > ... a unit's mu in order, the normalised spacings ``j (X_j - X_{j+1})`` of exchangeable images
    are independent exponentials in the tail, with a mean that is constant for an exponential tail (Rényi 1953) and
    otherwise changes steadily with log j (the exponential regression model: Feuerverger and Hall 1999; Beirlant et
    al. 1999). The mean spacing of ranks 2 to K - 1 is the unit's own; how it changes with log j is a least-squares
    line through the mean over units, since one unit's spacings are too few for it (own scale and common shape, as in
    the index-flood method: Hosking and Wallis 1997). The line at j = 1 gives the mean s of X_1 - X_2, and X_1 is
    expected at ``X_2 +`` an exponential of mean s. The strongest image itself is not used, so it does not explain
    itself.

    Args:
        tail_KU: ``(K, U)`` mu of the strongest images, descending, of units that are not dead.
        mu_rest_U: ``(U,)`` mean mu over the images other than the strongest.
        n: number of images; the `TAIL` strongest and at most a fifth of all make up the tail (at least 4).

    Returns:
        The expected score and its 95th percentile, each ``(U,)``; NaN where there are fewer than 4 images.
    """
    tail, rest = np.asarray(tail_KU, dtype=np.float64), np.asarray(mu_rest_U, dtype=np.float64)
    if n < 4 or tail.shape[1] == 0:
        return np.full_like(rest, np.nan), np.full_like(rest, np.nan)
    scale, spacings = _scale(tail, n)
    quantile = spacings * (0.05 ** (-1 / spacings) - 1)  # of an exponential over the mean of that many others
    expected = _score(tail[1] + scale * _NODES[:, None], rest)
    return _WEIGHTS @ expected, _score(tail[1] + scale * quantile, rest)


def null_draw(tail_KU: ArrayLike, mu_rest_U: ArrayLike, n: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """One score of each unit as `unitmem_null` expects it: what a table of exchangeable images could look like.

    Expected scores vary less from unit to unit than scores do, so what is made of the highest units (their share of a
    layer, a test of them against the lowest) compares with draws. Units are drawn one by one, though in a table of
    images they share these.

    Args:
        tail_KU: ``(K, U)`` mu of the strongest images, descending, of units that are not dead.
        mu_rest_U: ``(U,)`` mean mu over the images other than the strongest.
        n: number of images.
        generator: of the draws.

    Returns:
        ``(U,)``; NaN where there are fewer than 4 images.
    """
    tail, rest = np.asarray(tail_KU, dtype=np.float64), np.asarray(mu_rest_U, dtype=np.float64)
    if n < 4 or tail.shape[1] == 0:
        return np.full_like(rest, np.nan)
    return _score(tail[1] + _scale(tail, n)[0] * generator.exponential(size=len(rest)), rest)


def _scale(tail_KU: NDArray[np.float64], n: int) -> tuple[NDArray[np.float64], int]:
    """Mean of X_1 - X_2 for each unit, and how many spacings it was fitted to."""
    taken = min(TAIL, max(4, n // _SHARE))
    rank = np.arange(2, taken)
    spacings = rank[:, None] * (tail_KU[1 : taken - 1] - tail_KU[2:taken])
    mean = spacings.mean(0)
    return mean * _towards_the_top(spacings[:, mean > 0] / mean[mean > 0], np.log(rank)), len(rank)


def _towards_the_top(relative_JU: NDArray[np.float64], log_rank_J: NDArray[np.float64]) -> float:
    """The mean spacing at rank 1, over that of the ranks given: a line in log rank through the mean over units."""
    if relative_JU.shape[1] == 0:
        return 0.0
    deviation = log_rank_J - log_rank_J.mean()
    weights = 1 / len(log_rank_J) - log_rank_J.mean() * deviation / (deviation @ deviation)
    return max(0.0, float(weights @ relative_JU.mean(1)))


def _score(maximum: NDArray[np.float64], rest: NDArray[np.float64]) -> NDArray[np.float64]:
    total = maximum + rest
    return np.divide(maximum - rest, total, out=np.zeros_like(total), where=total > 0)
