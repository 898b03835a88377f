"""Are the most memorised images those that training needs?"""

from memlight.analyses.removal.columns import REMOVAL_ARMS, REMOVAL_CLASSES, REMOVAL_EFFECTS, REMOVAL_TABLE
from memlight.analyses.removal.command import evaluate_removal
from memlight.runs.analysis import Analysis, later

ANALYSIS = Analysis(
    "removal",
    evaluate_removal,
    {
        "table": REMOVAL_TABLE,
        "effects": REMOVAL_EFFECTS,
        "arms": REMOVAL_ARMS,
        "classes": REMOVAL_CLASSES,
    },
    heading="Images left out",
    section=later("memlight.analyses.removal.section", "removal_section"),
    docs="REMOVAL.md",
    answers=(
        "whether training needs the images it memorises: trained again without the highest, the lowest, "
        "random ones (`train.py removal` trains the arms)"
    ),
)
