"""What candidates are compared with: images that only the other encoder saw, or in half a pair images that none saw."""

from collections.abc import Collection
from typing import Any, NamedTuple

from numpy.typing import ArrayLike

from memlight.stats import Family, family

PAIR_WORDS = (
    "The contrast compares images only one encoder has seen: (mean score of candidates minus mean score of "
    "independent images) / 2. Differences in smoothness between the two trainings cancel in it, so it is 0 where "
    "nothing is memorised; the published LayerMem, beside its controls, keeps that offset."
)
HALF_WORDS = (
    "This is half a pair: the second encoder is a reference that saw neither group. The contrast is the mean score of "
    "candidates minus the mean score of external images, with no division by two, as one encoder alone memorises here. "
    "Differences in smoothness between the two trainings cancel in it, so it is 0 where nothing is memorised and "
    "candidates and external images are alike."
)


class Design(NamedTuple):
    """A comparison of two groups of images under two encoders.

    Attributes:
        control: the split that candidates are compared with.
        members: how many of the encoders memorise what the difference between the groups holds.
    """

    control: str
    members: int

    @property
    def half(self) -> bool:
        """Whether the second encoder is a mere reference."""
        return self.members == 1

    def contrast(self, candidate_NL: ArrayLike, control_ML: ArrayLike, *args: Any, **options: Any) -> Family:
        """What one encoder memorises, layer by layer: the difference of the groups' means over the members.

        Args:
            candidate_NL: ``(N, L)`` score of each candidate image on each layer.
            control_ML: ``(M, L)`` score of each image of the control.
            args: of `memlight.stats.family`.
            options: of `memlight.stats.family`.
        """
        tested = family(candidate_NL, control_ML, *args, **options)
        if not self.half:
            return tested
        ends = ("contrast", "se", "low", "high", "simultaneous_low", "simultaneous_high")
        return tested._replace(**{name: 2 * getattr(tested, name) for name in ends})

    @property
    def words(self) -> str:
        """What the contrast is, for the report."""
        return HALF_WORDS if self.half else PAIR_WORDS

    @property
    def formula(self) -> str:
        """What the contrast is, for an axis."""
        return "candidate minus external" if self.half else "(candidate minus independent) / 2"


PAIR, HALF = Design("independent", 2), Design("external", 1)


def design_of(splits: Collection[str]) -> Design:
    """The comparison that the measured splits allow.

    Args:
        splits: names of those that have scores.
    """
    return HALF if "independent" not in splits and "external" in splits else PAIR
