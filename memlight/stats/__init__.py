"""Tests and intervals: of one sample or two, and of many layers at once. Arrays only; nothing here needs torch."""

from memlight.stats.families import Claim, Family, claims, critical_value, family, relabelled_sums, step_down
from memlight.stats.intervals import (
    Interval,
    TTest,
    as_array,
    benjamini_hochberg,
    bootstrap_mean,
    bootstrap_means,
    clustered_mean,
    mean_of,
    normal_interval,
    permutation_interval,
    permutation_p,
    welch,
)

__all__ = [
    "Claim",
    "Family",
    "Interval",
    "TTest",
    "as_array",
    "benjamini_hochberg",
    "bootstrap_mean",
    "bootstrap_means",
    "claims",
    "clustered_mean",
    "critical_value",
    "family",
    "mean_of",
    "normal_interval",
    "permutation_interval",
    "permutation_p",
    "relabelled_sums",
    "step_down",
    "welch",
]
