"""Which layers are worth fine-tuning?"""

from memlight.analyses.finetune.columns import FINETUNE_EFFECTS, FINETUNE_TABLE
from memlight.analyses.finetune.command import finetune
from memlight.runs.analysis import Analysis, later

ANALYSIS = Analysis(
    "finetune",
    finetune,
    {
        "table": FINETUNE_TABLE,
        "effects": FINETUNE_EFFECTS,
    },
    heading="Fine-tuning",
    section=later("memlight.analyses.finetune.section", "finetune_section"),
    docs="FINETUNE.md",
    answers="whether layers of high delta are the ones to fine-tune on other data, against random layers",
)
