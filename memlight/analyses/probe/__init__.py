"""How good are the features? Linear probe and nearest neighbours."""

from memlight.analyses.probe.columns import PROBE_TABLE, headline
from memlight.analyses.probe.command import probe
from memlight.runs.analysis import Analysis, Number, later

ANALYSIS = Analysis(
    "probe",
    probe,
    {
        "table": PROBE_TABLE,
    },
    heading="Accuracy",
    section=later("memlight.analyses.probe.section", "probe_section"),
    missed="in pairs",
    headline=headline,
    numbers={
        "knn_top1": Number("kNN top-1 %", percent=True, digits=2, panel="kNN, top-1"),
        "linear_top1": Number("linear top-1 %", percent=True, digits=2, panel="linear probe, top-1"),
    },
    docs="METHODS.md",
    answers="how good the features are: linear probe and kNN of both members and of the untrained encoder",
)
