"""Which units fire for single classes? ClassMem."""

from memlight.analyses.classmem.columns import TABLES, headline
from memlight.analyses.classmem.command import classmem
from memlight.runs.analysis import Analysis, Curve, Number, later

ANALYSIS = Analysis(
    "classmem",
    classmem,
    TABLES,
    heading="Classes",
    section=later("memlight.analyses.classmem.section", "class_section"),
    headline=headline,
    numbers={"classmem/last": Number("ClassMem, last layer")},
    by_layer="layers",
    curves={"classmem": Curve("mean", "ClassMem", 3)},
    docs="CLASSMEM.md",
    answers=(
        "which class each unit answers to: ClassMem beside shuffled labels, held-out images (class "
        "selectivity) and UnitMem"
    ),
)
