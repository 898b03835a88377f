"""What the report says about Deja Vu: which layers know their own images' other corner, in words, tables, a figure."""

import numpy as np

from memlight.analyses.dejavu.columns import DEJAVU_PLACEBOS, DEJAVU_TABLE
from memlight.display import page
from memlight.display.page import decimals
from memlight.display.parts import drawn, figures, heading, section
from memlight.display.words import joined, named_above, together
from memlight.storage.rundir import AnalysisDir
from memlight.storage.tables import Table, read_table


@section(
    "dejavu",
    "One corner of an image is given, and the opposite corners of all images are ranked by the cosine of their "
    "features; the reciprocal rank is 1 where the image's own comes first. An encoder that was trained on the image "
    "may find it better than one that was not. The difference compares both members on both groups of images: half of "
    "(mean over candidates of f minus g) minus (mean over independent images of f minus g), where f was trained on the "
    "candidates and g on the independent images. It is 0 where nothing is memorised. Sentences rest on the mean "
    "reciprocal rank (MRR) alone, with all layers tested together; intervals in the table are each layer's own.",
)
def dejavu_section(analysis: AnalysisDir) -> str:
    """HTML of all results of `analyze.py dejavu`; empty where there are none."""
    table = read_table(analysis.table(), DEJAVU_TABLE)
    file = analysis.table("placebos")
    placebos = read_table(file, DEJAVU_PLACEBOS) if file.is_file() else None
    html = heading(analysis) + page.paragraph(dejavu_words(table))
    html += page.paragraph(placebo_words(placebos))
    html += drawn(table, DEJAVU_TABLE) + figures(analysis)
    if placebos is not None:
        html += page.folded("placebos", drawn(placebos, DEJAVU_PLACEBOS))
    return html


def claimed_layers(table: Table) -> tuple[list[str], list[str]]:
    """The layers whose difference lies above 0, and those where it lies below, by the adjusted p of all layers."""
    above, below = (named_above(sign * table["difference"], table["p_adjusted"]) for sign in (1, -1))
    return table["layer"][above].tolist(), table["layer"][below].tolist()


def dejavu_words(table: Table) -> str:
    """What was found, in words that follow the numbers of a table ``DEJAVU_TABLE``."""
    above, below = claimed_layers(table)
    layers = len(table["layer"])
    if not above:
        text = (
            f"In none of {layers} layers do the members find the other corner of their own images measurably better "
            f"than the other member does ({together(layers)})."
        )
    else:
        rows = np.isin(table["layer"], above)
        top = int(np.argmax(np.where(rows, table["difference"], -np.inf)))
        low, high = (table[f"difference_simultaneous_{end}"][top] for end in ("low", "high"))
        text = (
            f"In {len(above)} of {layers} layers the members find the other corner of their own images better than "
            f"the other member does: {joined(above)}. The largest difference of the mean reciprocal rank is "
            f"{decimals(table['difference'][top])} in {table['layer'][top]} (95 % band over all layers "
            f"{decimals(low)} to {decimals(high)}; {together(layers)})."
        )
    if below:
        text += f" In {joined(below)} it lies below 0, which memorisation cannot explain."
    return text


def placebo_words(placebos: Table | None) -> str:
    """What the placebos show, from a table ``DEJAVU_PLACEBOS``; None without."""
    if placebos is None:
        return "There are no external or shared images to deal into placebo halves."
    parts = []
    for name in dict.fromkeys(placebos["placebo"].tolist()):
        rows = placebos["placebo"] == name
        above, below = claimed_layers({column: values[rows] for column, values in placebos.items()})
        parts.append(f"{joined(above + below)}" if above or below else "no layer")
        parts[-1] += f" differs between two random halves of the {name} images"
    return f"Placebos, where there is nothing to find: {', '.join(parts)}. Chance names a layer in 5 of 100 such tests."
