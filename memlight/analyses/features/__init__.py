"""Features of images in a store, for other programs."""

from memlight.analyses.features.command import features
from memlight.runs.analysis import Analysis

ANALYSIS = Analysis(
    "features",
    features,
)
