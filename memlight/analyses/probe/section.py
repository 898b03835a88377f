"""What the report says about accuracies."""

from memlight.analyses.probe.columns import PROBE_TABLE
from memlight.display.parts import drawn, figures, heading, section
from memlight.storage.rundir import AnalysisDir
from memlight.storage.tables import read_table


@section("probe")
def probe_section(analysis: AnalysisDir) -> str:
    """HTML of the accuracies of a run's encoders; empty where none were measured."""
    return heading(analysis) + drawn(read_table(analysis.table(), PROBE_TABLE), PROBE_TABLE) + figures(analysis)
