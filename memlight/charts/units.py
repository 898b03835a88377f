"""How far UnitMem can be trusted: charts of its reliability and of its growth with the number of images. No torch."""

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.figure import Figure

from memlight.figures import BLUE, STYLE, layer_ticks, marker_spacing, spread_over
from memlight.tables import Table

CURVES = 6
"""Layers whose growth with the number of images is drawn, spread over the depth."""


@rc_context(STYLE)
def unitmem_reliability(halves: Table, curve: Table | None = None) -> Figure:
    """Rank correlation of the units' scores between two halves of the views, and mean UnitMem against images.

    Args:
        halves: columns ``UNITMEM_RELIABILITY``.
        curve: columns ``UNITMEM_CURVE``; None leaves the second panel out.
    """
    figure = Figure(figsize=(9.6, 3.4), dpi=160, layout="constrained")
    axes = figure.subplot_mosaic("A" if curve is None else "AB")
    x = np.arange(len(halves["layer"]))
    axes["A"].plot(x, halves["split_half"], "o-", color=BLUE, markevery=marker_spacing(x))
    axes["A"].set_ylim(min(0.0, float(np.nanmin(halves["split_half"], initial=0.0))) - 0.02, 1.02)
    axes["A"].set_title("Split-half reliability: 1 if the views do not matter")
    axes["A"].set_ylabel("rank correlation of the units' scores")
    layer_ticks(axes["A"], halves["layer"])
    if curve is not None:
        names = list(dict.fromkeys(curve["layer"].tolist()))
        for index, name in spread_over(list(enumerate(names)), CURVES):
            rows = curve["layer"] == name
            colour = colormaps["viridis"](0.92 * index / max(1, len(names) - 1))
            axes["B"].plot(curve["n"][rows], curve["mean"][rows], "o-", color=colour, label=name)
        axes["B"].set_xscale("log")
        axes["B"].set_xticks(np.unique(curve["n"]), [f"{n}" for n in np.unique(curve["n"])])
        axes["B"].minorticks_off()
        axes["B"].set_xlabel("images")
        axes["B"].set_ylabel("mean UnitMem")
        axes["B"].set_title("UnitMem grows with the images, for noise too")
        axes["B"].legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
