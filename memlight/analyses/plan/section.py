"""What the report says about a plan: how many images a contrast needs, and what this run could have shown."""

from memlight.analyses.plan.columns import PLAN_LAYERS, PLAN_RUNS, PLAN_TABLE
from memlight.display import page
from memlight.display.page import decimals
from memlight.display.parts import drawn, figures, heading, section
from memlight.storage.run_files import Summary
from memlight.storage.rundir import AnalysisDir
from memlight.storage.tables import Table, read_json, read_table


@section(
    "plan",
    "How many images, views and trainings show a contrast of a given size, with all layers tested at once. Each pair "
    "needs so many candidates, and as many independent images; nothing stands where no number of images is enough.",
)
def plan_section(analysis: AnalysisDir) -> str:
    """HTML of all results of `analyze.py plan`; empty where there are none."""
    headline = read_json(analysis.summary, Summary)["headline"]
    layers, runs = read_table(analysis.table("layers"), PLAN_LAYERS), read_table(analysis.table("runs"), PLAN_RUNS)
    table = read_table(analysis.table(), PLAN_TABLE)
    html = heading(analysis) + page.paragraph(plan_words(layers, headline["effect"], headline["power"]))
    html += page.paragraph(headline["words"], "soft") + candidates_by_views(table) + figures(analysis)
    html += page.folded("intervals that these would have", drawn(table, PLAN_TABLE))
    if len(runs["run"]) > 1:
        html += page.folded("how well the runs predict one another", drawn(runs, PLAN_RUNS))
    return html + page.folded("layer by layer", drawn(layers, PLAN_LAYERS))


def candidates_by_views(table: Table) -> str:
    """Candidates of a table ``PLAN_TABLE``: a row for every number of views, a column for seeds."""
    seeds, views = (sorted(set(table[name].tolist())) for name in ("seeds", "views"))
    columns = (table[name].tolist() for name in ("views", "seeds", "candidates"))
    candidates = {(view, count): needed for view, count, needed in zip(*columns, strict=True)}
    rows = [[page.number(view), *(page.number(candidates[view, count], 0) for count in seeds)] for view in views]
    return page.table(["views", *(f"candidates, {count} seed{'s' * (count > 1)}" for count in seeds)], rows)


def plan_words(layers: Table, effect: float, power: float) -> str:
    """What a run could have shown, in words that follow the numbers of a table ``PLAN_LAYERS``.

    Args:
        layers: the table.
        effect: the contrast that is planned.
        power: chance that it is claimed.
    """
    name, least = layers["layer"][-1], layers["detectable"][-1]
    than = "could have shown it" if least <= effect else "was too small to show it reliably"
    return (
        f"A contrast of {effect:g} is planned. In {name}, the last layer, the least contrast that this run shows with "
        f"{100 * power:g} % power is {decimals(least)}: it {than}."
    )
