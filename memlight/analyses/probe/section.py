"""What the report says about accuracies."""

from memlight.analyses.probe.columns import PROBE_TABLE
from memlight.display import page
from memlight.display.page import number, word
from memlight.display.parts import figures, heading, rows_of
from memlight.storage.rundir import RunDir
from memlight.storage.tables import read_table


def probe_section(run: RunDir) -> str:
    """HTML of the accuracies of a run's encoders; empty where none were measured.

    Raises:
        UserError: a table or summary is damaged.
    """
    found = []
    for analysis in run.analyses("probe"):
        rows = [
            [
                *(word(row[name]) for name in ("member", "features", "evaluation")),
                *(number(100 * row[name], 2) for name in ("top1", "top5")),
                *(number(row[name]) for name in ("n_train", "n_test")),
            ]
            for row in rows_of(read_table(analysis.table(), PROBE_TABLE))
        ]
        header = ("encoder", "features", "evaluation", "top-1 %", "top-5 %", "trained on", "tested on")
        found.append(heading(analysis) + page.table(header, rows) + figures(analysis))
    return "".join(found)
