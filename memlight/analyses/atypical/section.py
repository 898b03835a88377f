"""What the report says about atypical images: by which measures they are memorised more, in words, tables, figures."""

import numpy as np

from memlight.analyses.atypical.columns import ATYPICAL_GROUPS, ATYPICAL_TABLE, WORDS
from memlight.display import page
from memlight.display.page import decimals, word
from memlight.display.parts import Shown, drawn, figures, heading, section
from memlight.display.words import FAMILY_WISE, joined, named_above, together
from memlight.storage.run_files import Summary
from memlight.storage.rundir import AnalysisDir
from memlight.storage.tables import Table, read_json, read_table


@section(
    "atypical",
    "Are atypical images memorised more, as is said of them? The score of each member's own images is compared with "
    "how atypical they are: Spearman's rank correlation, and the mean score of the most atypical fifth minus that of "
    "the most typical one. A score contains both members, so features of a member are correlated with it without any "
    "memory: those used are of the member that was not trained on the image, or of random weights, and the same number "
    "on placebo images, which tell the members apart in nothing, is subtracted. A measure that is the same for both "
    "members has a placebo of exactly 0: there candidates and independent images are each other's control. Adjusted p "
    "hold for all layers, all measures and both statistics at once; the interval in the table is each row's own.",
)
def atypical_section(analysis: AnalysisDir) -> str:
    """HTML of all results of `analyze.py atypical`; empty where there are none."""
    table = read_table(analysis.table(), ATYPICAL_TABLE)
    groups = read_table(analysis.table("groups"), ATYPICAL_GROUPS)
    headline = read_json(analysis.summary, Summary)["headline"]
    html = heading(analysis) + page.paragraph(atypical_words(table))
    if headline.get("left_out"):
        html += page.paragraph(f"{headline['left_out'][0].upper()}{headline['left_out'][1:]}.")
    claims = ("rho_difference", "rho_difference_p_adjusted", "fifths_difference", "fifths_difference_p_adjusted")
    columns = ("layer", "rho_own", "rho_placebo", *claims)
    for number, placebo in enumerate(dict.fromkeys(table["placebo"].tolist())):
        shown = drawn(_against(table, placebo), ATYPICAL_TABLE, MEASURE, *columns)
        html += page.folded(f"against {placebo} images", shown) if number else shown
    others = [name for name, column in ATYPICAL_GROUPS.items() if column.title and name != "measure"]
    by_group = page.folded("each group of images by itself", drawn(groups, ATYPICAL_GROUPS, MEASURE, *others))
    return html + by_group + figures(analysis)


MEASURE: Shown = ("atypical by", lambda row: word(WORDS.get(row["measure"]) or row["measure"]))


def _against(table: Table, placebo: str) -> Table:
    return {name: values[table["placebo"] == placebo] for name, values in table.items()}


def atypical_words(table: Table) -> str:
    """What was found, in words that follow the numbers of a table ``ATYPICAL_TABLE``.

    A measure and a layer are named where the difference from the first placebo is claimed; whether the other placebo
    says the same is said of it.
    """
    first, *others = (_against(table, placebo) for placebo in dict.fromkeys(table["placebo"].tolist()))
    measures = list(dict.fromkeys(first["measure"].tolist()))
    layers = len(set(first["layer"].tolist()))
    said = [
        _of_measure(_where(first, measure), sign, more)
        for sign, more in ((1, "more"), (-1, "less"))
        for measure in measures
    ]
    found = [sentence for sentence in said if sentence]
    if not found:
        return (
            f"In none of {layers} layers are atypical images memorised measurably more or less than typical ones, by "
            f"any of {len(measures)} measures ({together(2 * layers * len(measures), 'numbers')})."
        )
    text = " ".join(found)
    if others:
        other = others[0]
        same = [_claimed(first, sign) == _claimed(other, sign) for sign in (1, -1)]
        agree = "The same layers are found" if all(same) else "Not all of the same layers are found"
        text += f" {agree} with {other['placebo'][0]} images as the placebo."
    return text


def _claimed(table: Table, sign: int) -> set[tuple[str, str]]:
    rows = named_above(sign * table["rho_difference"], table["rho_difference_p_adjusted"])
    return set(zip(table["measure"][rows].tolist(), table["layer"][rows].tolist(), strict=True))


def _where(table: Table, measure: str) -> Table:
    return {name: values[table["measure"] == measure] for name, values in table.items()}


def _of_measure(table: Table, sign: int, more: str) -> str:
    """A sentence on one measure; empty where nothing is claimed in this direction."""
    rows = np.flatnonzero(named_above(sign * table["rho_difference"], table["rho_difference_p_adjusted"]))
    if not len(rows):
        return ""
    top = rows[np.argmax(sign * table["rho_difference"][rows])]
    measure = table["measure"][0]
    text = (
        f"Images that are atypical by {WORDS.get(measure, measure)} are memorised {more} in "
        f"{joined(table['layer'][rows].tolist())}: rho {decimals(table['rho_difference'][top], 3)} beyond the placebo "
        f"in {table['layer'][top]}"
    )
    if table["fifths_difference_p_adjusted"][top] <= FAMILY_WISE:
        text += (
            f", where the atypical fifth scores {decimals(table['fifths_difference'][top])} more than the typical one"
        )
    return f"{text}."
