"""Can a single unit be trained to memorise chosen images?"""

from memlight.analyses.unit.columns import UNIT_ACCURACY, UNIT_OTHERS, UNIT_TABLE
from memlight.analyses.unit.command import unit
from memlight.runs.analysis import Analysis, later

ANALYSIS = Analysis(
    "unit",
    unit,
    {
        "table": UNIT_TABLE,
        "units": UNIT_OTHERS,
        "accuracy": UNIT_ACCURACY,
    },
    heading="A unit trained on chosen images",
    section=later("memlight.analyses.unit.section", "unit_section"),
    docs="UNIT.md",
    answers=(
        "whether the instrument responds: one unit trained on chosen images with all else bit-identical, its "
        "UnitMem over epochs"
    ),
)
