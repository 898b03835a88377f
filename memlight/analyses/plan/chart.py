"""The chart of a plan from its tables. No torch."""

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from memlight.display.figures import BLUE, GREEN, GREY, ORANGE, PURPLE, STYLE, layer_ticks
from memlight.storage.tables import Table

COLOURS = (BLUE, ORANGE, GREEN, PURPLE, GREY)
MARKERS = "os^vD"


@rc_context(STYLE)
def plan_chart(table: Table, layers: Table, effect: float) -> Figure:
    """Candidates against views for every number of seeds, and what the first run could have shown by layer.

    Args:
        table: columns ``PLAN_TABLE``.
        layers: columns ``PLAN_LAYERS``, at least one row.
        effect: the contrast that is planned, drawn across the layers.
    """
    figure = Figure(figsize=(9.6, 3.9), dpi=160, layout="constrained")
    needed, detectable = figure.subplots(1, 2)
    for number, seeds in enumerate(sorted(set(table["seeds"].tolist()))):
        rows = (table["seeds"] == seeds) & np.isfinite(table["candidates"])
        label = f"{seeds} seed{'s' * (seeds > 1)}"
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
        needed.plot(table["views"][rows], table["candidates"][rows], f"{marker}-", color=colour, label=label)
    views = sorted(set(table["views"].tolist()))
    needed.set(xscale="log", yscale="log", xlabel="views of each image", ylabel="candidates of each pair")
    needed.set_xticks(views, [str(count) for count in views])
    needed.xaxis.set_minor_locator(LogLocator(subs=()))
    needed.xaxis.set_minor_formatter(NullFormatter())
    needed.set_title(f"Needed for a contrast of {effect:g}")
    needed.legend(fontsize=8)
    x = np.arange(len(layers["layer"]))
    detectable.bar(x, layers["detectable"], color=BLUE, width=0.7)
    detectable.axhline(effect, color="black", lw=0.8, ls="--", label="the contrast that is planned")
    detectable.set(title="Least contrast that this run shows", ylabel="contrast")
    detectable.legend(fontsize=8)
    layer_ticks(detectable, layers["layer"])
    return figure
