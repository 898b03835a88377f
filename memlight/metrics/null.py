"""What UnitMem scores when no image is special: how far the strongest image stands out among exchangeable ones."""

from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln

TAIL = 20
"""Strongest images of a unit from which the null is made."""

_SHARE = 5
"""At most one image in so many belongs to the tail."""

FEWEST_UNITS = 32
"""Of so many units the shape of a layer's tails is known well enough for their 95th percentile."""

_SHAPES = np.round(np.linspace(-2.0, 1.5, 71), 2)
"""Shapes of tails that are tried: -1 is that of a uniform distribution, 0 of an exponential, 1/3 of a t with 3."""

_SIMULATED = 40_000
"""Tails that are simulated for the percentile at one shape."""

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

    The 95th percentile depends on the shape of the tail more than the mean does, so it has a shape of its own: that of
    a generalised Pareto distribution (Pickands 1975), fitted to the same spacings of all units together; see
    `layer_tail`, which also says where the percentile is not to be trusted.

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
    spacings_JU, rank_J = _spacings(tail, n)
    shape = _shape(spacings_JU, rank_J)
    scale = (spacings_JU / _expected_spacing(shape, rank_J)[:, None]).mean(0)
    p95 = _score(tail[1] + scale * _simulated(shape, len(rank_J)).quantile, rest)
    return expected_unitmem(tail, rest, n), p95


def expected_unitmem(tail_KU: ArrayLike, mu_rest_U: ArrayLike, n: int) -> NDArray[np.float64]:
    """The expected score of `unitmem_null` alone, ``(U,)``: all that a mean excess needs, at a fraction of the time."""
    tail, rest = np.asarray(tail_KU, dtype=np.float64), np.asarray(mu_rest_U, dtype=np.float64)
    if n < 4 or tail.shape[1] == 0:
        return np.full_like(rest, np.nan)
    expected: NDArray[np.float64] = _WEIGHTS @ _score(tail[1] + _scale(tail, n) * _NODES[:, None], rest)
    return expected


class LayerTail(NamedTuple):
    """The tails of a layer's units above their weaker images, and whether their 95th percentile is to be trusted.

    Attributes:
        shape: of a generalised Pareto distribution, common to all units: below 0 for a bounded tail, 0 for an
            exponential, above 0 for a heavy one; NaN without units or with fewer than 4 images.
        calibrated: where images are exchangeable, the percentile of `unitmem_null` is exceeded by 5 to 9 % of the
            units. False where there are too few units to know the shape, where some do not vary (most images do not
            fire them), or where the units' tails differ by more than those of one shape would in 99 % of cases.
    """

    shape: float
    calibrated: bool


def layer_tail(tail_KU: ArrayLike, n: int) -> LayerTail:
    """Shape of the tails of a layer's units, and whether one shape describes them all.

    How a unit's spacings change with rank is summed up by their slope against log rank over their mean, which its
    scale does not change. Its variance over units is compared with that of simulated tails of the common shape. Units
    that answer to the same images vary less than independent ones would, so among those a difference is missed more
    often than it would be.

    Args:
        tail_KU: ``(K, U)`` mu of the strongest images, descending, of units that are not dead.
        n: number of images.
    """
    tail = np.asarray(tail_KU, dtype=np.float64)
    if n < 4 or tail.shape[1] == 0:
        return LayerTail(float("nan"), False)
    spacings_JU, rank_J = _spacings(tail, n)
    varying, units = spacings_JU.min(0) > 0, tail.shape[1]
    shape = _shape(spacings_JU, rank_J)
    if units < FEWEST_UNITS or len(rank_J) < 2 or not varying.all():
        return LayerTail(shape, False)
    simulated = _simulated(shape, len(rank_J))
    largest = simulated.variance * (1 + 2.326 * np.sqrt((simulated.kurtosis - 1) / units))  # 99 % of a normal
    return LayerTail(shape, bool(_slopes(spacings_JU, rank_J).var(ddof=1) <= largest))


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
    return _score(tail[1] + _scale(tail, n) * generator.exponential(size=len(rest)), rest)


def _spacings(tail_KU: NDArray[np.float64], n: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """``j (X_j - X_{j+1})`` of ranks 2 to K - 1, ``(J, U)``, and these ranks."""
    taken = min(TAIL, max(4, n // _SHARE))
    rank = np.arange(2, taken)
    spacings: NDArray[np.float64] = rank[:, None] * (tail_KU[1 : taken - 1] - tail_KU[2:taken])
    return spacings, rank


def _scale(tail_KU: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """Mean of X_1 - X_2 for each unit."""
    spacings, rank = _spacings(tail_KU, n)
    mean: NDArray[np.float64] = spacings.mean(0)
    return mean * _towards_the_top(spacings[:, mean > 0] / mean[mean > 0], np.log(rank))


def _expected_spacing(shape: float, rank_J: NDArray[np.int64]) -> NDArray[np.float64]:
    """Of a generalised Pareto tail ``E[j (X_j - X_{j+1})]`` is proportional to ``Gamma(j - shape) / Gamma(j)``.

    With ``X_j = (W_j^-shape - 1) / shape`` for the uniform order statistics W it follows from their moments. It is j
    for a uniform distribution and constant for an exponential.
    """
    return np.asarray(np.exp(gammaln(rank_J - shape) - gammaln(rank_J)))


def _shape(spacings_JU: NDArray[np.float64], rank_J: NDArray[np.int64]) -> float:
    """The shape under which spacings of all units, each with its own scale, are most likely if exponential.

    Only the mean of the spacings must be right for that to be consistent. The scale that is most likely is the mean of
    spacings over what is expected, so what is left is a function of the shape alone.
    """
    varying_JU = spacings_JU[:, spacings_JU.mean(0) > 0]
    if varying_JU.shape[1] == 0:
        return 0.0
    expected_SJ = np.stack([_expected_spacing(shape, rank_J) for shape in _SHAPES])
    scale_SU = (1 / expected_SJ) @ varying_JU / len(rank_J)
    likelihood_S = -np.log(expected_SJ).mean(1) - np.log(scale_SU).mean(1)
    return float(_SHAPES[int(likelihood_S.argmax())])


class _Tails(NamedTuple):
    """What simulated tails of one shape give.

    Attributes:
        quantile: 95 % quantile of X_1 - X_2 over the scale that the other spacings give.
        variance: of the units' slopes, see `layer_tail`.
        kurtosis: of these slopes, 3 for a normal distribution.
    """

    quantile: float
    variance: float
    kurtosis: float


@cache
def _simulated(shape: float, spacings: int) -> _Tails:
    """Simulate the tails of units of one shape; the same ones at every call."""
    generator, rank = np.random.default_rng(0), np.arange(2, spacings + 2)
    W = generator.exponential(size=(spacings + 2, _SIMULATED)).cumsum(0)  # in proportion to uniform order statistics
    X: NDArray[np.float64] = -np.log(W) if shape == 0 else (W**-shape - 1) / shape
    below_JU = rank[:, None] * (X[1:-1] - X[2:])
    top = (X[0] - X[1]) / (below_JU / _expected_spacing(shape, rank)[:, None]).mean(0)
    slopes = _slopes(below_JU, rank)
    deviation = slopes - slopes.mean()
    variance = float((deviation**2).mean())
    kurtosis = float((deviation**4).mean()) / variance**2 if variance > 0 else 3.0
    return _Tails(float(np.quantile(top, 0.95)), variance, kurtosis)


def _slopes(spacings_JU: NDArray[np.float64], rank_J: NDArray[np.int64]) -> NDArray[np.float64]:
    """Slope of each unit's spacings against log rank, over their mean (up to a factor that is the same for all)."""
    deviation = np.log(rank_J) - np.log(rank_J).mean()
    slopes: NDArray[np.float64] = deviation @ spacings_JU / spacings_JU.mean(0)
    return slopes


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
