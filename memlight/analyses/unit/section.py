"""What the report says about units that were trained on chosen images."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from memlight.analyses.unit.columns import UNIT_ACCURACY, UNIT_OTHERS, UNIT_TABLE
from memlight.display import page
from memlight.display.parts import drawn, figures, heading, section
from memlight.storage.run_files import Summary
from memlight.storage.rundir import AnalysisDir
from memlight.storage.tables import Table, read_json, read_table


@section(
    "unit",
    "One unit is trained on chosen images and everything else stays as it is: a test of the instrument, since here "
    "it is known who was made to answer to what. Masked trains the unit's own weights; restore trains its layer "
    "and puts the other units back.",
)
def unit_section(analysis: AnalysisDir) -> str:
    """HTML of all results of ``analyze.py unit``; empty where there are none."""
    table = read_table(analysis.table(), UNIT_TABLE)
    others = read_table(analysis.table("units"), UNIT_OTHERS)
    summary = read_json(analysis.summary, Summary)["headline"]
    html = heading(analysis) + page.paragraph(unit_words(summary, table, others)) + figures(analysis)
    scores, names = ("unitmem", "null_mean", "mu_max", "mu_rest"), [name for name in ("path",) if name in table]
    shown = ("method", "epoch", *scores, "max_id", *names, "mu_of_ids", "rank")
    html += page.folded("Every measurement", drawn(table, UNIT_TABLE, *shown))
    if analysis.table("accuracy").is_file():
        html += drawn(read_table(analysis.table("accuracy"), UNIT_ACCURACY), UNIT_ACCURACY)
    return html


def unit_words(summary: Mapping[str, Any], table: Table, others: Table) -> str:
    """What training did to the unit and to the others, in words that follow the numbers.

    Args:
        summary: headline of the summary: ``layer``, ``unit``, ``ids``, ``objective``.
        table: columns ``UNIT_TABLE``.
        others: columns ``UNIT_OTHERS``.
    """
    goal = {"training": "with the run's own loss", "activation": "to stand out"}[str(summary["objective"])]
    ids = summary["ids"]
    on = f"image {ids[0]}" if len(ids) == 1 else f"{len(ids)} images"
    text = f"Unit {summary['unit']} of {summary['layer']}, trained {goal} on {on}."
    for name in dict.fromkeys(table["method"].tolist()):
        rows = np.flatnonzero(table["method"] == name)
        first, last = ({key: column[row] for key, column in table.items()} for row in (rows[0], rows[-1]))
        text += (
            f" {name.capitalize()}: UnitMem {first['unitmem']:.3f} before and {last['unitmem']:.3f} after "
            f"{last['epoch']} epochs; {_above(first)} before and {_above(last)} after."
        )
        untrained = (others["method"] == name) & ~others["trained"]
        changed = int((untrained & (others["unitmem_before"] != others["unitmem_after"])).sum())
        text += f" {changed or 'None'} of the {untrained.sum()} other units changed its UnitMem."
    return text


def _above(row: Mapping[str, Any]) -> str:
    rank = row["rank"]
    if row["mu_max"] == 0:
        return "it fired for no image"
    images = "image was" if rank == 1 else "images were"
    return "a chosen image was its maximum" if rank == 0 else f"{rank} {images} above the chosen"
