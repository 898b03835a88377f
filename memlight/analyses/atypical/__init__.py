"""Are atypical images memorised more? Rank correlations of the scores with atypicality, beside placebos."""

from memlight.analyses.atypical.columns import TABLES
from memlight.analyses.atypical.command import atypical
from memlight.runs.analysis import Analysis, later

ANALYSIS = Analysis(
    "atypical",
    atypical,
    TABLES,
    heading="Atypical images",
    section=later("memlight.analyses.atypical.section", "atypical_section"),
    docs="ATYPICAL.md",
    answers=(
        "whether atypical images are memorised more: rank correlation of the score with distance to the class,"
        " neighbours of other classes, compressed bytes or scores of your own, beside the same on placebos"
    ),
)
