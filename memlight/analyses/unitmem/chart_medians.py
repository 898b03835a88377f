"""UnitMem against the mean and against the median of the other images. No torch."""

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.figure import Figure

from memlight.display.figures import BLUE, GREEN, STYLE, layer_ticks, marker_spacing, spread_over
from memlight.storage.tables import Table

LAYERS = 6
"""Layers named in the legend, spread over the depth."""


@rc_context(STYLE)
def unitmem_mean_and_median(table: Table, medians: Table) -> Figure:
    """Both forms of every living unit, and their correlation over the units of each layer.

    Args:
        table: columns ``UNITMEM_TABLE`` with the median form.
        medians: columns ``UNITMEM_MEDIANS``; the last row of each kind is of all layers together.
    """
    figure = Figure(figsize=(9.6, 4.0), dpi=160, layout="constrained")
    axes = figure.subplot_mosaic("AB")
    scored = medians["scores"] == "scored"
    names = medians["layer"][scored][:-1].tolist()
    named = spread_over(names, LAYERS)
    for index, name in enumerate(names):
        rows = (table["layer"] == name) & ~table["dead"]
        colour = colormaps["viridis"](0.92 * index / max(1, len(names) - 1))
        label = name if name in named else None
        axes["A"].plot(table["unitmem"][rows], table["unitmem_median"][rows], ".", ms=2.5, color=colour, label=label)
    axes["A"].axline((0, 0), slope=1, color="black", lw=0.8)
    axes["A"].set_title("Every unit: on the line if both forms agree")
    axes["A"].set_xlabel("UnitMem, mean of the other images")
    axes["A"].set_ylabel("UnitMem, median of the other images")
    axes["A"].legend(fontsize=8, loc="lower right", markerscale=4)
    for kind, label, hue in (("scored", "images scored", BLUE), ("held_out", "held-out images", GREEN)):
        rows = np.flatnonzero(medians["scores"] == kind)[:-1]
        if not len(rows):
            continue
        x = np.arange(len(rows))
        every = marker_spacing(x)
        lines = (("spearman", "-", "rank correlation"), ("pearson", ":", "correlation"))
        for column, line, words in lines:
            text = f"{words}, {label}"
            axes["B"].plot(x, medians[column][rows], f"o{line}", color=hue, label=text, markevery=every)
    axes["B"].set_title("Within a layer: 1 if ordered alike")
    axes["B"].set_ylabel("correlation over the layer's units")
    low, _ = axes["B"].get_ylim()
    axes["B"].set_ylim(min(low, 0.9), 1.005)
    axes["B"].legend(fontsize=8, loc="lower left")
    layer_ticks(axes["B"], np.array(names))
    return figure
