"""How many images, views and trainings a contrast needs, from the variances of its parts.

A pair with n candidates and as many independent images measures

    contrast = (mean of n scores - mean of n others) / 2,      se^2 = score(V) / (2 n)

where ``score(V) = image + view factor(V)`` is the variance of one image's score from V views (`view_factor`). The true
contrast differs from training to training with variance ``training``; the mean of K pairs, each with its own training,
is then spread by ``se^2 / K + training / K`` around the effect. The claim is tested with ``se`` alone: where nothing is
memorised, the true contrast is 0 in every training.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Floats = NDArray[np.float64]

USUAL_VIEWS = 10
"""Views of each image that LayerMem has unless it is told otherwise."""

PAIR_NOISE = 8.0
"""Variance of the distance of one pair of views, over its covariance with that of another pair that shares a view:
7.5 to 8.3 in the last three layers of ResNet9 on digits, from the same pair scored with 2, 10 and 40 views."""


def view_factor(views: ArrayLike) -> Floats:
    """What V views add to the variance of a score, over what `USUAL_VIEWS` add.

    Alignment is the mean distance over all V (V - 1) / 2 pairs of views. With c the covariance of two pairs that share
    a view, and `PAIR_NOISE` times c the variance of one, the variance of such a mean is (Hoeffding 1948, eq 5.13)
    ``2 c (2 (V - 2) + PAIR_NOISE) / (V (V - 1))``: about 4 c / V for many views, and far more for two.
    """
    v = np.stack(np.broadcast_arrays(_floats(views), float(USUAL_VIEWS)))
    asked, usual = (2 * (v - 2) + PAIR_NOISE) / (v * (v - 1))
    result: Floats = asked / usual
    return result


class Components(NamedTuple):
    """Variances of one layer's score and contrast.

    Attributes:
        image: of an image's score between images and trainings, which more views do not take away.
        view: what `USUAL_VIEWS` views add to the variance of a score; V views add `view_factor` times as much.
        training: of the true contrast between trainings.
    """

    image: float
    view: float
    training: float

    def score(self, views: ArrayLike) -> Floats:
        """Variance of one image's score from so many views."""
        result: Floats = self.image + self.view * view_factor(views)
        return result

    def error(self, images: ArrayLike, views: ArrayLike, trainings: ArrayLike = 1) -> Floats:
        """Standard error of the mean contrast over images: what its interval is made of.

        Args:
            images: n, candidates, and independent images, of each pair.
            views: V of each image.
            trainings: K pairs.
        """
        result: Floats = np.sqrt(self.score(views) / (2 * _floats(images) * _floats(trainings)))
        return result


def independent_critical_value(layers: int, level: float = 0.05) -> float:
    """The two-sided normal quantile for the largest of so many independent statistics (Šidák 1967).

    Layers depend on one another, so that their own relabellings give a smaller value: this one errs on the safe side.
    """
    return float(stats.norm.ppf((1 + (1 - level) ** (1 / layers)) / 2))


def power_of(
    effect: float,
    components: Components,
    images: ArrayLike,
    views: ArrayLike,
    trainings: ArrayLike,
    critical: float,
) -> Floats:
    """Chance that the mean contrast is claimed, which is to say, exceeds ``critical`` standard errors.

    Args:
        effect: the true contrast in the mean over trainings, above 0.
        components: variances of the layer.
        images: n, candidates, and independent images, of each pair.
        views: V of each image.
        trainings: K pairs.
        critical: value that a statistic must exceed, for all layers at once.
    """
    error = components.error(images, views, trainings)
    spread = np.sqrt(error**2 + components.training / _floats(trainings))
    result: Floats = stats.norm.cdf((effect - critical * error) / spread)
    return result


def images_needed(
    effect: float,
    components: Components,
    views: ArrayLike,
    trainings: ArrayLike,
    critical: float,
    power: float = 0.8,
) -> Floats:
    """The least number of candidates (and of independent images) with which the power is reached.

    With ``z`` the normal quantile of the power and ``t^2 = training / K``, the power is reached where
    ``effect - critical se = z sqrt(se^2 + t^2)``; that is solved for ``se``, and ``se`` for n.

    Args:
        effect: the true contrast in the mean over trainings, above 0.
        components: variances of the layer.
        views: V of each image.
        trainings: K pairs.
        critical: value that a statistic must exceed, for all layers at once.
        power: chance of that, at least a half.

    Returns:
        Whole numbers, at least 2; infinite where trainings differ so much that no number of images is enough.
    """
    views_, trainings_ = np.broadcast_arrays(_floats(views), _floats(trainings))
    z = stats.norm.ppf(power)
    left = effect**2 - z**2 * components.training / trainings_
    inside = (effect * critical) ** 2 - (critical**2 - z**2) * left
    reached = (left > 0) & (effect - z * np.sqrt(components.training / trainings_) > 0)
    error = np.where(reached, left, 1) / (effect * critical + np.sqrt(np.where(reached, inside, 1)))
    images = components.score(views_) / (2 * trainings_ * error**2)
    return np.where(reached, np.maximum(2, np.ceil(images - 1e-9)), np.inf)


def detectable_effect(error: ArrayLike, critical: float, power: float = 0.8) -> Floats:
    """The least contrast that a layer with this standard error shows with so much power, trainings being alike."""
    result: Floats = (critical + stats.norm.ppf(power)) * _floats(error)
    return result


def view_components(variances: ArrayLike, views: ArrayLike) -> tuple[float, float]:
    """Split the variance of a score into what views add and the rest: least squares of ``image + view factor(V)``.

    Squares are of relative errors, since the error of a variance is in proportion to it.

    Args:
        variances: of the score in two or more results, above 0.
        views: of each; at least two different numbers.

    Returns:
        ``image`` and ``view``, neither below 0: one that would be is 0, and the other is fitted alone.
    """
    found, factor = _floats(variances), view_factor(views)
    design = np.stack([np.ones_like(factor), factor], axis=1) / found[:, None]
    ones = np.ones_like(found)
    image, view = np.linalg.lstsq(design, ones, rcond=None)[0].tolist()
    if min(image, view) >= 0:
        return image, view
    column = design[:, int(image < 0)]
    alone = float(column @ ones / (column @ column))
    return (0.0, alone) if image < 0 else (alone, 0.0)


def training_variance(contrasts: ArrayLike, errors: ArrayLike) -> float:
    """Variance of the true contrast between trainings: that of the measured ones minus what images explain.

    Args:
        contrasts: of two or more trainings.
        errors: standard error of each over images.

    Returns:
        At least 0 (method of moments; DerSimonian and Laird 1986 with equal weights).
    """
    return max(0.0, float(np.var(_floats(contrasts), ddof=1) - np.mean(_floats(errors) ** 2)))


def _floats(values: ArrayLike) -> Floats:
    return np.asarray(values, dtype=np.float64)
