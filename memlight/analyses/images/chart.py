"""Which images drive units, and what sets them apart: charts from tables. No torch."""

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from memlight.analyses.images.columns import FOUND
from memlight.display.figures import BLUE, GREEN, GREY, STYLE, layer_ticks
from memlight.storage.tables import Table


@rc_context(STYLE)
def image_ownership(curve: Table, ownership: Table) -> Figure:
    """How few images own the top units, and in each layer how many own any, beside owners drawn at random.

    Args:
        curve: columns ``IMAGES_CURVE``.
        ownership: columns ``IMAGES_OWNERSHIP``, the scored images first.
    """
    figure = Figure(figsize=(9.6, 3.9), dpi=160, layout="constrained")
    axes = figure.subplot_mosaic("AB")
    ax, share = axes["A"], 100 * curve["share"]
    ax.fill_between(share, 100 * curve["null_low"], 100 * curve["null_high"], color=GREY, alpha=0.3, lw=0)
    ax.plot(share, 100 * curve["null"], ":", color=GREY, label="owners drawn at random")
    ax.plot(share, 100 * curve["units"], "-", color=BLUE, label="images scored")
    if np.isfinite(curve["held_out_units"]).any():
        ax.plot(share, 100 * curve["held_out_units"], "--", color=GREEN, label="held-out images")
    ax.set_xscale("log")
    ticks = [tick for tick in (0.01, 0.1, 1, 10, 100) if tick >= share[0]]
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.minorticks_off()
    ax.set(
        title="Grey if owners were drawn at random",
        xlabel="images, from those that own most (%)",
        ylabel="top 10 % of units that they own (%)",
    )
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower left", ncols=3, fontsize=8)
    _by_layer(axes["B"], ownership)
    return figure


def _by_layer(ax: Axes, ownership: Table) -> None:
    splits = list(dict.fromkeys(ownership["split"].tolist()))
    by_layer = ownership["layer"] != ownership["layer"][0]  # the first rows are of all layers together
    layers = list(dict.fromkeys(ownership["layer"][by_layer].tolist()))
    for split, colour, marker, shift in zip(splits, (BLUE, GREEN), "o^", (-0.12, 0.12), strict=False):
        rows = by_layer & (ownership["split"] == split)
        x = np.array([layers.index(layer) for layer in ownership["layer"][rows].tolist()])
        expected = ownership["owners_null"][rows]
        if split == splits[0]:
            low, high = (ownership[f"owners_null_{end}"][rows] / expected for end in ("low", "high"))
            ax.fill_between(x, low, high, color=GREY, alpha=0.3, lw=0)
        ax.plot(x + shift, ownership["owners"][rows] / expected, marker, color=colour)
    ax.axhline(1, color="black", lw=0.8)
    ax.set_ylim(0, None)
    ax.set(title="By layer: 1 if drawn at random", ylabel="images that own a top unit,\nover those expected")
    layer_ticks(ax, np.array(layers))


@rc_context(STYLE)
def image_descriptors(correlations: Table, matched: Table) -> Figure:
    """Descriptors against top units owned (``IMAGES_DESCRIPTORS``), and of owners and controls (``IMAGES_MATCHED``)."""
    names = correlations["descriptor"].tolist()
    figure = Figure(figsize=(9.6, 1.3 + 0.36 * len(names)), dpi=160, layout="constrained")
    axes = figure.subplot_mosaic("AB", sharey=True)
    _panel(axes["A"], correlations, "rho", "held_out_rho")
    axes["A"].set(
        title="Rank correlation: 0 if looks do not matter", xlabel="Spearman's rho with the top units an image owns"
    )
    _panel(axes["B"], matched, "difference", "held_out_difference")
    y = np.arange(len(names))
    axes["B"].plot(matched["unmatched"], y, "x", color=GREY, label="scored, not matched")
    axes["B"].set(
        title="Owners against controls: 0 if alike", xlabel="difference in standard deviations, the rest matched"
    )
    axes["A"].set_yticks(y, [name.replace("_", " ") for name in names])
    axes["A"].set_ylim(len(names) - 0.4, -0.6)
    handles, labels = axes["B"].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, fontsize=8)
    return figure


def _panel(ax: Axes, table: Table, name: str, held_out: str) -> None:
    y = np.arange(len(table[name]))
    width = table["null_high"] - table["null_low"]
    ax.barh(y, width, 0.7, table["null_low"], color=GREY, alpha=0.3, label="owners at random, central 95 %")
    found = table["q"] < FOUND
    ax.plot(table[name][found], y[found] - 0.13, "o", color=BLUE, label="scored, q < .05")
    ax.plot(table[name][~found], y[~found] - 0.13, "o", mfc="white", color=BLUE, label="scored")
    if np.isfinite(table[held_out]).any():
        ax.plot(table[held_out], y + 0.13, "^", color=GREEN, label="held-out images")
    ax.axvline(0, color="black", lw=0.8)
    ax.grid(visible=True, axis="x")
    ax.grid(visible=False, axis="y")
