"""What a treatment costs against random ones of the same size, from the test images that each copy classifies."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from scipy import stats
from torch import Tensor

from memlight.analyses.verdicts import Verdict
from memlight.stats import Interval, normal_interval


class Effect(NamedTuple):
    """Drops of accuracy, as shares of the test images, each with a 95 % interval.

    Attributes:
        drop: the untreated copy's accuracy minus the treated one's; its interval is over test images, paired.
        random: mean drop over the random draws; its interval is where one more draw is expected (prediction). Without
            bounds (NaN) for a single draw.
        excess: ``drop`` minus the mean of ``random``; its interval holds both spreads, see `against_random`.
    """

    drop: Interval
    random: Interval
    excess: Interval

    @property
    def verdict(self) -> Verdict:
        """Whether the excess differs from 0, for this comparison by itself; not decidable without an interval.

        Of several comparisons see `memlight.analyses.verdicts`.
        """
        if self.excess.low > 0:
            return "costs more"
        return "costs less" if self.excess.high < 0 else "not decidable"


def paired_drop(right_none_M: Tensor, right_treated_M: Tensor, *, confidence: float = 0.95) -> Interval:
    """Accuracy lost, with an interval over test images that are the same for both copies.

    ``d_i = right_none_i - right_treated_i``; mean(d) plus and minus the normal quantile times sd(d) / sqrt(M).

    Args:
        right_none_M: ``(M,)`` bool, which test images the untreated copy classifies correctly.
        right_treated_M: ``(M,)`` bool, which of the same images the treated copy classifies correctly.
        confidence: of the interval.

    Raises:
        ValueError: other shapes, or fewer than two images.
    """
    _require_images(right_none_M, right_treated_M)
    return normal_interval(*_mean_and_error(right_none_M.double() - right_treated_M.double()), confidence)


def against_random(
    right_none_M: Tensor, right_treated_M: Tensor, right_random_TM: Tensor, *, confidence: float = 0.95
) -> Effect:
    """Compare a treated copy with copies that were treated at random, T draws of the same size.

    The excess is mean_t(accuracy of draw t) - accuracy of the treated copy. Two things blur it, and its half width is
    the root of the sum of their squared half widths:

    * draws vary: had the treated copy been one more random draw, it would lie within
      ``t(T - 1) * s * sqrt(1 + 1 / T)`` of their mean, s the standard deviation of the draws' drops;
    * test images are a sample: ``z * sd(e) / sqrt(M)``, ``e_i = mean_t(right_random_ti) - right_treated_i``.

    The draws are tested on the same finite set, so s holds a part of the second already: the interval is wide rather
    than narrow.

    Args:
        right_none_M: ``(M,)`` bool, which test images the untreated copy classifies correctly.
        right_treated_M: ``(M,)`` bool, which of the same images the treated copy classifies correctly.
        right_random_TM: ``(T, M)`` bool, which of them the copy of each random draw classifies correctly.
        confidence: of the intervals.

    Raises:
        ValueError: other shapes, fewer than two images, or no draw.
    """
    drop = paired_drop(right_none_M, right_treated_M, confidence=confidence)
    _require_images(right_none_M, *right_random_TM)
    draws = len(right_random_TM)
    if not draws:
        raise ValueError("right_random_TM: there is no random draw to compare with")
    right_random_TM = right_random_TM.double()
    drops_T = right_none_M.double().mean() - right_random_TM.mean(1)
    mean = float(drops_T.mean())
    between = math.nan
    if draws > 1:
        quantile = float(stats.t.ppf(0.5 + confidence / 2, draws - 1))
        between = quantile * float(drops_T.std()) * math.sqrt(1 + 1 / draws)
    excess, error = _mean_and_error(right_random_TM.mean(0) - right_treated_M.double())
    half = math.hypot(between, float(stats.norm.ppf(0.5 + confidence / 2)) * error)
    return Effect(drop, Interval(mean, mean - between, mean + between), Interval(excess, excess - half, excess + half))


def effect_row(right_none_M: Tensor, right_treated_M: Tensor, drawn: Sequence[Tensor]) -> tuple[object, ...]:
    """A treated copy as it stands in a table of effects; `memlight.analyses.verdicts` judges all rows together.

    Args:
        right_none_M: ``(M,)`` bool, which test images the untreated copy classifies correctly.
        right_treated_M: ``(M,)`` bool, which of the same images the treated copy classifies correctly.
        drawn: the same ``(M,)`` for each random draw; there may be none.

    Returns:
        ``drop, low, high, random, low, high, draws, excess, low, high``; NaN where there is nothing to compare with.
    """
    if not drawn:
        return (*paired_drop(right_none_M, right_treated_M), *[math.nan] * 3, 0, *[math.nan] * 3)
    effect = against_random(right_none_M, right_treated_M, torch.stack(list(drawn)))
    return (*effect.drop, *effect.random, len(drawn), *effect.excess)


def _mean_and_error(values_M: Tensor) -> tuple[float, float]:
    return float(values_M.mean()), float(values_M.std()) / math.sqrt(len(values_M))


def _require_images(*right: Tensor) -> None:
    if any(row.shape != right[0].shape for row in right) or right[0].ndim != 1 or len(right[0]) < 2:
        shapes = sorted({tuple(row.shape) for row in right})
        raise ValueError(f"one value for each of the same two or more test images is needed, got shapes {shapes}")
