"""Features of images in a store, for other programs."""

from memlight.analyses.features.command import features
from memlight.runs.analysis import Analysis

ANALYSIS = Analysis(
    "features",
    features,
    docs="FEATURES.md",
    answers="any layer's outputs, whole or reduced to units, as shards with ids for your own notebook",
)
