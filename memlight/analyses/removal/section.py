"""What the report says about removal studies: whether the most memorised images are those that training needs."""

from memlight.analyses.removal.columns import REMOVAL_ARMS, REMOVAL_EFFECTS, REMOVAL_TABLE
from memlight.analyses.verdicts import JUDGED_ANEW, against_draws
from memlight.display import page
from memlight.display.page import decimals, word
from memlight.display.parts import POINTS, drawn, effect_cells, figures, rows_of, section
from memlight.storage.rundir import AnalysisDir
from memlight.storage.tables import Table, read_table

ARMS = {"none": "none", "top": "most memorised", "low": "least memorised", "random": "random"}


@section(
    "removal",
    "The candidate member was trained again without some of its candidates, everything else equal, and a new "
    "linear probe was tested on external images. All arms leave out equally many images, so an epoch has as many "
    "steps in each, but more in the run's own training (none): only arms are compared with one another. An excess "
    "above 0 is what images of this score cost beyond their number. Its interval (95 %, for each row by itself) "
    "holds the spread of the random draws, each trained anew, and the test images'; verdicts are of both rows "
    "together, from p-values adjusted by Holm.",
)
def removal_section(analysis: AnalysisDir) -> str:
    """HTML of all removal studies of a run; empty where there are none."""
    table = read_table(analysis.table(), REMOVAL_TABLE)
    read = read_table(analysis.table("effects"), REMOVAL_EFFECTS)
    effects = against_draws(read)
    arms = read_table(analysis.table("arms"), REMOVAL_ARMS)
    title = f"{table['removed'].max()} candidates left out, by their score at {arms['layer'][0]}"
    html = f"<h3>{title}</h3>" + page.paragraph(removal_words(table, effects))
    html += page.paragraph(JUDGED_ANEW, "soft") if effects is not read else ""
    if compared := [[word(ARMS[row["arm"]]), *effect_cells(row)] for row in rows_of(effects)]:
        ends = "95 % interval"
        header = ("left out", "lost", ends, "random lost", "one more draw", "excess", ends, "p, adjusted")
        html += page.table((*header, "against random"), compared)
    schema = {**REMOVAL_TABLE, **REMOVAL_ARMS}
    left_out = ("left out", lambda row: word(ARMS[row["arm"]]))
    shown = (name for name, column in schema.items() if column.title)
    return html + figures(analysis) + drawn(table | arms, schema, left_out, *shown)


def removal_words(table: Table, effects: Table) -> str:
    """What leaving candidates out cost, in words that follow the numbers.

    Args:
        table: columns ``REMOVAL_TABLE``.
        effects: columns ``REMOVAL_EFFECTS``.
    """
    removed = table["removed"].max()
    sentences = [
        f"The probe of the run's own candidate encoder classifies "
        f"{decimals(POINTS * table['probe_top1'][0], 2)} % of the external images correctly."
    ]
    drops = table["drop"][table["arm"] == "random"]
    if len(drops):
        count = f"mean of {len(drops)} draws" if len(drops) > 1 else "one draw"
        sentences.append(f"Trained without {removed} random candidates, accuracy {_fell(drops.mean())} ({count}).")
    for row in rows_of(effects):
        against = f", which {row['verdict']} than random" if row["verdict"].startswith("costs") else ""
        if not against and len(drops) > 1:
            against = ", not told apart from random"
        sentences.append(f"Trained without the {removed} {ARMS[row['arm']]}, it {_fell(row['drop'])}{against}.")
    return " ".join(sentences)


def _fell(drop: float) -> str:
    return f"{'fell' if drop >= 0 else 'rose'} by {decimals(abs(POINTS * drop), 2)} points"
