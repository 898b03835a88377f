"""How many images, views and trainings does a contrast of this size need? Power, before anything is trained."""

from memlight.analyses.plan.columns import TABLES
from memlight.analyses.plan.command import plan
from memlight.runs.analysis import Analysis, later

ANALYSIS = Analysis(
    "plan",
    plan,
    TABLES,
    heading="What a larger experiment needs",
    section=later("memlight.analyses.plan.section", "plan_section"),
    docs="PLAN.md",
    answers=(
        "before training: how many candidates, views and seeds show a contrast with 80 % power for all layers at once;"
        " afterwards: the least contrast that a run could have shown"
    ),
)
