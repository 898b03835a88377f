"""What the report says about scores of others, in the sections of layermem, unitmem and images."""

from typing import Any

import numpy as np

from memlight.analyses.columns_joined import JOINED, PICTURED
from memlight.display import page
from memlight.display.page import decimals
from memlight.display.parts import drawn
from memlight.display.words import joined, named_above, together
from memlight.storage.image_names import printable
from memlight.storage.run_files import Summary
from memlight.storage.rundir import AnalysisDir
from memlight.storage.tables import Table, read_json, read_table


def joined_part(analysis: AnalysisDir, what: str, control: str) -> str:
    """Words and table of what was joined; empty where nothing was.

    Args:
        analysis: a result.
        what: what was measured, as a sentence has it.
        control: which images the control is of.
    """
    path = analysis.table("joined")
    if not path.is_file():
        return ""
    table, made = read_table(path, JOINED), read_json(analysis.summary, Summary)["headline"]
    controlled = bool(np.isfinite(table["control"]).any())
    beside = f"The control is the same correlation among {control}; what is as large there is not memory. "
    explained = page.paragraph(
        f"Scores that others computed of the same images, from {printable(str(made.get('joined_file', 'a file')))}"
        f"{_matched(made)}. A rank correlation says that both order the images alike, and not why: images that are "
        "striking for every encoder are so for others' scores too. "
        f"{beside if controlled else ''}Rows are tested together by dealing the joined scores to "
        "the images at random (max-T): where they have nothing in common, a sentence names a row in at most 5 of 100 "
        "cases. Intervals are 95 %, each by itself.",
        "soft",
    )
    shown = [name for name in JOINED if JOINED[name].title and (controlled or "control" not in name)]
    return (
        "<h3>Scores of others</h3>"
        + page.paragraph(joined_words(table, what))
        + explained
        + drawn(table, JOINED, *shown)
    )


def _matched(made: dict[str, Any]) -> str:
    return f" ({made['joined_words']})" if made.get("joined_words") else ""


def joined_words(table: Table, what: str) -> str:
    """With which scores of others something goes together, in words that follow the numbers of a table ``JOINED``."""
    count = len(table["layer"])
    return " ".join(
        _words({name: column[table["score"] == score] for name, column in table.items()}, score, what, count)
        for score in dict.fromkeys(table["score"].tolist())
    )


def _words(table: Table, score: str, what: str, tested: int) -> str:
    value, p, name = table["spearman"], table["p_adjusted"], printable(score)
    among = f"{int(table['n'].max())} images, {together(tested, 'correlations')}"
    apart = named_above(np.abs(value), p)
    if not apart.any():
        lowest = f"; smallest adjusted p {np.nanmin(p):.2g}" if np.isfinite(p).any() else ""
        return f"No rank correlation between {what} and {name} is measured ({among}{lowest})."
    top = int(np.nanargmax(np.where(apart, np.abs(value), np.nan)))
    where = joined(table["layer"][apart].tolist(), f"{apart.sum()} of {len(value)} rows")
    text = (
        f"{what} and {name} are correlated in {where} ({among}), most in {table['layer'][top]}: rank correlation "
        f"{decimals(value[top], 2)}, 95 % interval {decimals(table['spearman_low'][top], 2)} to "
        f"{decimals(table['spearman_high'][top], 2)}, adjusted p {p[top]:.2g}"
    )
    if np.isfinite(table["control"][top]):
        text += f"; {decimals(table['control'][top], 2)} among the control images"
    return f"{text[0].upper()}{text[1:]}."


def pictured_part(analysis: AnalysisDir, title: str) -> str:
    """The list of the images of a figure, with their paths, behind a line to click on; empty for older results."""
    path = analysis.table("pictured")
    if not path.is_file():
        return ""
    table = read_table(path, PICTURED)
    return page.folded(title, drawn(table, PICTURED))
