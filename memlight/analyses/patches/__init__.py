"""Which patches of training images is a generated image made of?"""

from memlight.analyses.patches.columns import (
    PATCHES_COMPARE,
    PATCHES_IMAGES,
    PATCHES_NEAREST,
    PATCHES_ORIGINS,
    PATCHES_RAREFACTION,
    PATCHES_TABLE,
)
from memlight.analyses.patches.command import PATCHES
from memlight.runs.analysis import Analysis

ANALYSIS = Analysis(
    "patches",
    PATCHES,
    {
        "table": PATCHES_TABLE,
        "images": PATCHES_IMAGES,
        "origins": PATCHES_ORIGINS,
        "rarefaction": PATCHES_RAREFACTION,
        "nearest": PATCHES_NEAREST,
    },
    docs="PATCHES.md",
    answers=(
        "which patches of training images a generated image reuses: embedded, searched exactly, counted "
        "beside random sources and held-out images"
    ),
)

COMPARISON = Analysis("patches_compare", PATCHES, {"table": PATCHES_COMPARE})
"""Several searches side by side, as ``patches report --compare`` writes them."""
