"""LayerMem and its contrast by depth: a chart from their tables. No torch."""

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from memlight.display.figures import BLUE, GREEN, GREY, ORANGE, STYLE, _interval, layer_ticks, marker_spacing
from memlight.storage.tables import Table


@rc_context(STYLE)
def layermem_by_depth(table: Table, intervals: Table | None = None) -> Figure:
    """The contrast with its interval, the published score beside its controls, and the published delta.

    Args:
        table: columns ``LAYERMEM_TABLE``, one row per layer in execution order.
        intervals: columns ``LAYERMEM_INTERVALS``, drawn as bands around the published score and its controls.
    """
    figure = Figure(figsize=(9.6, 5.0), dpi=160, layout="constrained")
    axes = figure.subplot_mosaic("AB;AC", width_ratios=[1.15, 1])
    x = np.arange(len(table["layer"]))

    contrast, published, delta = axes["A"], axes["B"], axes["C"]
    _interval(contrast, x, table, "contrast", BLUE)
    contrast.set_title("Contrast: 0 where nothing is memorised")
    contrast.set_ylabel("(candidate minus independent) / 2, of mean SSLMem'")

    every = marker_spacing(x)
    published.plot(x, table["layermem"], "o-", color=BLUE, label="candidates (LayerMem)", markevery=every)
    controls = {"independent": (ORANGE, "s--"), "external": (GREEN, "^:"), "shared": (GREY, "v:")}
    for name, (colour, line) in controls.items():
        scores_of_control = table[f"control_{name}"]
        if np.isfinite(scores_of_control).any():
            published.plot(x, scores_of_control, line, color=colour, label=f"{name} (control)", lw=1.2, markevery=every)
    if intervals is not None:
        colours = {"layermem": BLUE, **{f"control_{name}": colour for name, (colour, _) in controls.items()}}
        for name, colour in colours.items():
            low, high = intervals[f"{name}_low"], intervals[f"{name}_high"]
            published.fill_between(x, low, high, color=colour, alpha=0.18, lw=0)
    published.set_title("Published score beside its controls")
    published.set_ylabel("mean SSLMem'")
    published.legend(fontsize=7.5)

    delta.bar(x, table["delta"], color=np.where(np.nan_to_num(table["delta"]) < 0, ORANGE, BLUE), width=0.7)
    delta.set_title("Published step")
    delta.set_ylabel("delta: LayerMem minus that\nof what feeds the layer")
    for ax in axes.values():
        ax.axhline(0, color="black", lw=0.8)
        layer_ticks(ax, table["layer"])
    return figure
