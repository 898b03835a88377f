"""Charts of ClassMem from its tables. No torch."""

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from memlight.display.figures import (
    BLUE,
    GREEN,
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
    """ClassMem by layer beside shuffled labels, held-out images and the UnitMem of the same units.

    Args:
        layers: columns ``CLASSMEM_LAYERS``, one row per layer in execution order.
    """
    figure = Figure(figsize=(9.6, 4.2), dpi=160, layout="constrained")
    ax = figure.subplots()
    x = np.arange(len(layers["layer"]))
    every = marker_spacing(x)
    ax.plot(x, layers["max"], ".", color=BLUE, alpha=0.6, label="highest unit")
    ax.plot(x, layers["p95"], "-", color=BLUE, lw=0.9, label="95th percentile of units")
    ax.plot(x, layers["mean"], "o-", color=BLUE, label="mean over units", markevery=every)
    if np.isfinite(layers["held_out_mean"]).any():
        ax.plot(x, layers["held_out_mean"], "^--", color=GREEN, label="mean, held-out images", markevery=every)
    if np.isfinite(layers["null_mean"]).any():
        ax.plot(x, layers["null_mean"], ":", color=GREY, label="labels shuffled")
        band = "up to their 95th percentile"
        ax.fill_between(x, layers["null_mean"], layers["null_p95"], color=GREY, alpha=0.18, lw=0, label=band)
    ax.plot(x, layers["unitmem_mean"], "s-", color=ORANGE, lw=1.0, label="mean UnitMem", markevery=every)
    ax.set_title("ClassMem beside its controls")
    ax.set_ylabel("ClassMem")
    ax.set_ylim(0, 1.02)
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
    columns = min(4, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(2.4 * columns, 0.7 + 2.1 * rows), dpi=160, layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for ax, name in zip(grid.flat, names, strict=False):
        alive = (table["layer"] == name) & ~unitmem["dead"]
        x, y = unitmem["unitmem"][alive], table["classmem"][alive]
        ax.plot([0, 1], [0, 1], color=GREY, lw=0.7)
        ax.scatter(x, y, s=7, color=BLUE, alpha=0.45, lw=0)
        ax.set_title(name, fontsize=9)
        note = f"{len(x)} units"
        if len(x):
            ax.plot(x.mean(), y.mean(), "+", color=ORANGE, ms=9, mew=1.6)
            note += f"\nUnitMem {x.mean():.3f}\nClassMem {y.mean():.3f}"
        ax.text(0.03, 0.96, note, transform=ax.transAxes, va="top", fontsize=7.5, color="#444444", bbox=NOTE_BOX)
        ax.set(xlim=(0, 1), ylim=(0, 1), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
    for ax in list(grid.flat)[len(names) :]:
        ax.remove()
    for ax in list(grid.flat)[: len(names)][-columns:]:  # the lowest panel of each column
        ax.tick_params(labelbottom=True)
    figure.supxlabel("UnitMem: strongest image against the others", fontsize=9.5)
    figure.supylabel("ClassMem: strongest class against the others", fontsize=9.5)
    return figure
