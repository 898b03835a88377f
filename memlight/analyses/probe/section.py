"""What the report says about accuracies."""

from memlight.analyses.probe.columns import PROBE_TABLE
from memlight.display.parts import drawn, figures, heading
from memlight.storage.rundir import RunDir
from memlight.storage.tables import read_table


def probe_section(run: RunDir) -> str:
    """HTML of the accuracies of a run's encoders; empty where none were measured.

    Raises:
        UserError: a table or summary is damaged.
    """
    return "".join(
        heading(analysis) + drawn(read_table(analysis.table(), PROBE_TABLE), PROBE_TABLE) + figures(analysis)
        for analysis in run.analyses("probe")
    )
