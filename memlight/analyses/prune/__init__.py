"""What does it cost to prune units of high UnitMem?"""

from memlight.analyses.prune.columns import PRUNE_EFFECTS, PRUNE_TABLE, PRUNE_UNITS
from memlight.analyses.prune.command import prune
from memlight.analyses.unitmem.columns import UNITMEM_TABLE
from memlight.runs.analysis import Analysis, later

ANALYSIS = Analysis(
    "prune",
    prune,
    {
        "table": PRUNE_TABLE,
        "effects": PRUNE_EFFECTS,
        "units": PRUNE_UNITS,
        "unitmem": UNITMEM_TABLE,
    },
    heading="Pruning",
    section=later("memlight.analyses.prune.section", "prune_section"),
    docs="PRUNING.md",
    answers=(
        "what units of high and low UnitMem are worth: pruned per layer or over the whole model, against "
        "random draws of the same size; `PruneCallback` does it during training"
    ),
)
