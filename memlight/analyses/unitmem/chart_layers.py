"""UnitMem layer by layer: charts from their tables. No torch."""

from collections.abc import Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from memlight.display.figures import (
    BLUE,
    GREEN,
    GREY,
    MOST_PANELS,
    NOTE_BOX,
    ORANGE,
    PURPLE,
    STYLE,
    _interval,
    layer_ticks,
    marker_spacing,
    spread_over,
)
from memlight.storage.tables import Table


@rc_context(STYLE)
def unitmem_by_layer(layers: Table) -> Figure:
    """UnitMem by layer beside what noise and held-out images score; for a pair also its two contrasts.

    Args:
        layers: columns ``UNITMEM_LAYERS``, one row per layer in execution order.
    """
    pair = "unit_contrast" in layers
    figure = Figure(figsize=(9.6, 4.6), dpi=160, layout="constrained")
    axes = figure.subplot_mosaic("AB;AC" if pair else "A")
    x = np.arange(len(layers["layer"]))

    scores = axes["A"]
    every = marker_spacing(x)
    scores.plot(x, layers["max"], ".", color=BLUE, alpha=0.6, label="highest unit")
    scores.plot(x, layers["p95"], "-", color=BLUE, lw=0.9, label="95th percentile of units")
    scores.plot(x, layers["mean"], "o-", color=BLUE, label="mean over units", markevery=every)
    if np.isfinite(layers["held_out_mean"]).any():
        scores.plot(x, layers["held_out_mean"], "^--", color=GREEN, label="mean, held-out images", markevery=every)
    scores.plot(x, layers["null_mean"], ":", color=GREY, label="expected of exchangeable images")
    scores.fill_between(
        x, layers["null_mean"], layers["null_p95"], color=GREY, alpha=0.18, lw=0, label="up to their 95th percentile"
    )
    scores.set_title("UnitMem beside its controls")
    scores.set_ylabel("UnitMem")
    scores.set_ylim(0, 1.02)
    scores.legend(fontsize=8, loc="best")
    if pair:
        _interval(axes["B"], x, layers, "unit_contrast", BLUE)
        axes["B"].axhline(0, color="black", lw=0.8)
        axes["B"].set_title("Unit contrast: 0 if nothing is memorised")
        axes["B"].set_ylabel("unit contrast")
        renamed = {
            "own": layers["own_max_share"],
            "own_low": layers["own_max_low"],
            "own_high": layers["own_max_high"],
        }
        _interval(axes["C"], x, renamed, "own", PURPLE)
        axes["C"].axhline(0.5, color="black", lw=0.8)
        axes["C"].set_title("Own-max share: 0.5 if nothing is memorised")
        axes["C"].set_ylabel("share of units")
    for ax in axes.values():
        layer_ticks(ax, layers["layer"])
    return figure


@rc_context(STYLE)
def unitmem_histogram(table: Table, layers: Sequence[str] | None = None) -> Figure:
    """Histograms of UnitMem, one small panel per layer, dead units left out.

    Args:
        table: columns ``UNITMEM_TABLE``.
        layers: which layers; at most `MOST_PANELS`, spread over the depth, when None.
    """
    names = list(dict.fromkeys(table["layer"].tolist())) if layers is None else list(layers)
    if layers is None:
        names = spread_over(names, MOST_PANELS)
    columns = min(4, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(2.4 * columns, 0.7 + 1.5 * rows), dpi=160, layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, squeeze=False)
    bins = np.linspace(0, 1, 41)
    for ax, name in zip(grid.flat, names, strict=False):
        rows_of_layer = table["layer"] == name
        alive = table["unitmem"][rows_of_layer & ~table["dead"]]
        dead = int((rows_of_layer & table["dead"]).sum())
        ax.hist(alive, bins, color=BLUE)
        ax.set_title(name, fontsize=9)
        note = f"{len(alive)} units" + (f"\n{dead} dead" if dead else "")
        if len(alive):
            ax.axvline(alive.mean(), color=ORANGE, lw=1.3)
            note += f"\nmean {alive.mean():.3f}"
        right = not len(alive) or alive.mean() < 0.5
        ax.text(0.98 if right else 0.03, 0.95, note, transform=ax.transAxes, va="top", fontsize=7.5,
                ha="right" if right else "left", color="#444444", bbox=NOTE_BOX)  # fmt: skip
        ax.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    for ax in list(grid.flat)[len(names) :]:
        ax.remove()
    figure.supxlabel("UnitMem", fontsize=9.5)
    figure.supylabel("number of units", fontsize=9.5)
    return figure
