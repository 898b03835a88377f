"""What the report says about LayerMem: where something is memorised, in words, a table and figures."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from memlight.analyses.layermem.columns import LAYERMEM_TABLE, LAYERMEM_TESTS
from memlight.display import page
from memlight.display.page import Cell, decimals, word
from memlight.display.parts import drawn, figures, heading, section
from memlight.display.words import joined
from memlight.storage.run_files import Summary
from memlight.storage.rundir import AnalysisDir
from memlight.storage.tables import Table, read_json, read_table


def contrast_words(table: Table) -> str:
    """The headline in words that follow the numbers.

    Args:
        table: columns ``LAYERMEM_TABLE``.
    """
    layers, low, high = table["layer"].tolist(), table["contrast_low"], table["contrast_high"]
    above = [name for name, bound in zip(layers, low, strict=True) if bound > 0]
    below = [name for name, bound in zip(layers, high, strict=True) if bound < 0]
    if not above:
        text = f"No memorisation is measured in any of {len(layers)} layers: no contrast lies above 0."
    else:
        top = int(np.nanargmax(np.where(low > 0, table["contrast"], np.nan)))
        text = (
            f"Memorisation is measured in {len(above)} of {len(layers)} layers, most in {layers[top]}: contrast "
            f"{decimals(table['contrast'][top])}, 95 % interval {decimals(low[top])} to {decimals(high[top])}."
        )
        silent = [name for name, a, b in zip(layers, low, high, strict=True) if a <= 0 <= b]
        if silent:
            text += f" No memorisation is measured in {joined(silent, 'the others')} (interval includes 0)."
    if below:
        text += f" In {joined(below)} the contrast lies below 0, which memorisation cannot explain."
    return text


def blocks_words(headline: Mapping[str, Any]) -> str:
    """Whether attention or MLP memorises more, in words that follow the numbers; empty for other architectures.

    Args:
        headline: of the summary of ``layermem``.
    """
    if "mlp_minus_attention" not in headline:
        return ""
    value, low, high = (headline[f"mlp_minus_attention{end}"] for end in ("", "_low", "_high"))
    verdict = "neither memorises measurably more than the other"
    if low > 0:
        verdict = "the MLPs memorise more"
    elif high < 0:
        verdict = "the attentions memorise more"
    return (
        f"MLP minus attention, image by image and averaged over the blocks: contrast {decimals(value)}, 95 % interval "
        f"{decimals(low)} to {decimals(high)}; {verdict}."
    )


def contrast_verdict(low: float, high: float) -> Cell:
    """What an interval of the contrast says about one layer."""
    if low > 0:
        return word("memorisation measured", "yes")
    if high < 0:
        return word("below 0", "no")
    if math.isnan(low) or math.isnan(high):
        return word("not defined", "no")
    return word("no memorisation measured", "no")


@section(
    "layermem",
    "The contrast compares images only one encoder has seen: (mean score of candidates minus mean score of "
    "independent images) / 2. Differences in smoothness between the two trainings cancel in it, so it is 0 where "
    "nothing is memorised; the published LayerMem, beside its controls, keeps that offset. Intervals are 95 %, "
    "for each layer by itself.",
)
def layermem_section(analysis: AnalysisDir) -> str:
    """HTML of the results of `analyze.py layermem`; empty where there are none."""
    table, tests = read_table(analysis.table(), LAYERMEM_TABLE), read_table(analysis.table("tests"), LAYERMEM_TESTS)
    html = heading(analysis) + page.paragraph(contrast_words(table)) if analysis.tag else ""
    if by_block := blocks_words(read_json(analysis.summary, Summary)["headline"]):
        html += page.paragraph(by_block)
    reading = ("reading", lambda row: contrast_verdict(row["contrast_low"], row["contrast_high"]))
    others = [name for name, column in LAYERMEM_TABLE.items() if column.title and name not in ("layer", "contrast")]
    html += drawn(table, LAYERMEM_TABLE, "layer", "contrast", reading, *others)
    p = ("p", lambda row: Cell(f"{row['p']:.1e}", row["p"]))
    title = "Welch's t-test of the candidates' published scores against each control"
    return html + page.folded(title, drawn(tests, LAYERMEM_TESTS, "layer", "control", "t", p)) + figures(analysis)
