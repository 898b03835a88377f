"""A chart of one unit while it is trained. No torch."""

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from memlight.display.figures import BLUE, GREY, ORANGE, STYLE
from memlight.storage.tables import Table

LINES = {"masked": ("o-", BLUE, "only its own weights"), "restore": ("s--", ORANGE, "its layer, the others put back")}
"""Method -> line, colour and words."""


@rc_context(STYLE)
def unit_training(table: Table, of: str) -> Figure:
    """UnitMem of the unit beside its null, and how many images lie above the chosen ones.

    Args:
        table: columns ``UNIT_TABLE``.
        of: which unit, for the titles.
    """
    figure = Figure(figsize=(9.6, 4.2), dpi=160, layout="constrained")
    score, rank = figure.subplots(1, 2)
    for name in dict.fromkeys(table["method"].tolist()):
        rows = table["method"] == name
        line, colour, words = LINES[name]
        epochs = table["epoch"][rows]
        score.plot(epochs, table["unitmem"][rows], line, color=colour, label=f"{name}: {words}")
        score.plot(epochs, table["null_mean"][rows], ":", color=colour, lw=1.2)
        rank.plot(epochs, table["rank"][rows], line, color=colour)
    score.plot([], [], ":", color=GREY, lw=1.2, label="expected if no image were special")
    score.set_title(f"UnitMem of {of}")
    score.set_ylabel("UnitMem")
    score.set_ylim(0, 1.02)
    rank.set_title("Rank of the chosen image: 0 if strongest")
    rank.set_ylabel("images with a larger mu than the chosen")
    rank.set_yscale("symlog", linthresh=1)
    rank.set_ylim(-0.3, max(10.0, 1.6 * float(np.max(table["rank"]))))
    rank.set_yticks(ticks := [0, *(10**n for n in range(6) if 10**n <= rank.get_ylim()[1])], [f"{t}" for t in ticks])
    rank.minorticks_off()
    for ax in (score, rank):
        ax.set_xlabel("epochs")
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    figure.legend(*score.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8.5)
    return figure
