"""Charts of ClassMem from its tables. No torch."""

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from memlight.analyses.unitmem.chart import draw_scores, small_panels
from memlight.display.figures import (
    BLUE,
    GREY,
    MOST_PANELS,
    NOTE_BOX,
    ORANGE,
    STYLE,
    layer_ticks,
    marker_spacing,
    spread_over,
)
from memlight.storage.tables import Table


@rc_context(STYLE)
def classmem_by_layer(layers: Table) -> Figure:
    """ClassMem by layer (``CLASSMEM_LAYERS``) beside shuffled labels, held-out images and UnitMem of the same units."""
    figure = Figure(figsize=(9.6, 4.2), dpi=160, layout="constrained")
    ax = figure.subplots()
    draw_scores(ax, layers, null="labels shuffled")
    x = np.arange(len(layers["layer"]))
    ax.plot(x, layers["unitmem_mean"], "s-", color=ORANGE, lw=1.0, label="mean UnitMem", markevery=marker_spacing(x))
    ax.set(title="ClassMem beside its controls", ylabel="ClassMem")
    ax.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    layer_ticks(ax, layers["layer"], most=30)
    return figure


@rc_context(STYLE)
def classmem_scatter(table: Table, unitmem: Table) -> Figure:
    """Each unit's ClassMem against its UnitMem, one small panel per layer; at most 12, spread over the depth.

    Units that fire for single images lie at the lower right, units that fire for a whole class alike on the diagonal
    or above it.

    Args:
        table: columns ``CLASSMEM_TABLE``.
        unitmem: columns ``UNITMEM_TABLE``, the same units in the same order; those that are dead are left out.
    """
    names = spread_over(list(dict.fromkeys(table["layer"].tolist())), MOST_PANELS)
    figure, axes = small_panels(names, 2.1, sharex=True, sharey=True)
    for ax, name in zip(axes, names, strict=True):
        alive = (table["layer"] == name) & ~unitmem["dead"]
        x, y = unitmem["unitmem"][alive], table["classmem"][alive]
        ax.plot([0, 1], [0, 1], color=GREY, lw=0.7)
        ax.scatter(x, y, s=7, color=BLUE, alpha=0.45, lw=0)
        note = f"{len(x)} units"
        if len(x):
            ax.plot(x.mean(), y.mean(), "+", color=ORANGE, ms=9, mew=1.6)
            note += f"\nUnitMem {x.mean():.3f}\nClassMem {y.mean():.3f}"
        ax.text(0.03, 0.96, note, transform=ax.transAxes, va="top", fontsize=7.5, color="#444444", bbox=NOTE_BOX)
        ax.set(xlim=(0, 1), ylim=(0, 1), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
    for ax in axes[-4:]:  # the lowest panel of each column
        ax.tick_params(labelbottom=True)
    figure.supxlabel("UnitMem: strongest image against the others", fontsize=9.5)
    figure.supylabel("ClassMem: strongest class against the others", fontsize=9.5)
    return figure
