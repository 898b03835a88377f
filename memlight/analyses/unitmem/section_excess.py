"""What the report says about UnitMem's null: how far each layer exceeds it, and what held-out images make of it."""

import numpy as np

from memlight.analyses.unitmem.columns import UNITMEM_NULL
from memlight.display import page
from memlight.display.page import interval, number, word
from memlight.display.parts import rows_of
from memlight.display.words import joined
from memlight.storage.rundir import AnalysisDir
from memlight.storage.tables import Table, read_table


def excess_html(analysis: AnalysisDir) -> str:
    """Words and the table of one result of UnitMem; empty where it was made before there was one.

    Raises:
        UserError: the table is damaged.
    """
    if not analysis.table("null").is_file():
        return ""
    null = read_table(analysis.table("null"), UNITMEM_NULL)
    rows = [
        [
            word(row["layer"]),
            *(number(row[name], 3) for name in ("mean", "null_mean")),
            number(row["excess"]),
            interval(row["excess_low"], row["excess_high"]),
            number(row["held_out_excess"]),
            interval(row["held_out_low"], row["held_out_high"]),
            number(row["above_null_p95"], 3),
        ]
        for row in rows_of(null)
    ]
    header = (
        *("layer", "mean", "null mean", "excess", "95 % interval", "held-out excess", "95 % interval"),
        "units above null 95 %",
    )
    explained = page.paragraph(
        "Excess is UnitMem minus its null, the mean over a layer's units; intervals are clustered by the units' "
        "strongest image, for each layer by itself. The null is fitted to the tail of the other images. Where it "
        "misfits, images that nobody was trained on exceed it too: that is the held-out excess.",
        "soft",
    )
    return "<h3>Excess over the null</h3>" + page.paragraph(excess_words(null)) + page.table(header, rows) + explained


def excess_words(null: Table) -> str:
    """What the excess shows, in words that follow the numbers.

    Args:
        null: columns ``UNITMEM_NULL``.
    """
    above = null["excess_low"] > 0
    if not above.any():
        return "UnitMem lies above what exchangeable images would score in no layer: no excess has an interval above 0."
    names = null["layer"][above].tolist()
    text = f"UnitMem lies above what exchangeable images would score in {joined(names)}"
    if not np.isfinite(null["held_out_excess"]).any():
        return f"{text}; there are no held-out images to tell memorisation from a misfit of the null."
    beyond = null["layer"][above & (null["excess_low"] > null["held_out_high"])].tolist()
    if not beyond:
        return f"{text}; nowhere does it exceed the null by more than held-out images, which nobody was trained on, do."
    return f"{text}; in {joined(beyond)} its excess lies above that of held-out images, which nobody was trained on."
