"""How far UnitMem can be trusted: its reliability, its growth with the number of images, its null. No torch."""

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.figure import Figure

from memlight.display.figures import BLUE, GREEN, GREY, STYLE, layer_ticks, marker_spacing, spread_over
from memlight.storage.tables import Table

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


@rc_context(STYLE)
def unitmem_excess(null: Table, excess: Table) -> Figure:
    """Mean excess over the null by layer, beside that of held-out images, and every unit's excess.

    Args:
        null: columns ``UNITMEM_NULL``, one row per layer in execution order.
        excess: columns ``UNITMEM_EXCESS``.
    """
    figure = Figure(figsize=(9.6, 3.8), dpi=160, layout="constrained")
    axes = figure.subplot_mosaic("AB")
    x = np.arange(len(null["layer"]))
    members = {"excess": (BLUE, "o", -0.13, "images scored"), "held_out": (GREEN, "^", 0.13, "held-out images")}
    for name, (colour, marker, shift, label) in members.items():
        middle = null["excess" if name == "excess" else "held_out_excess"]
        if np.isfinite(middle).any():
            bars = (middle - null[f"{name}_low"], null[f"{name}_high"] - middle)
            axes["A"].errorbar(x + shift, middle, bars, fmt=marker, color=colour, capsize=2, elinewidth=1, label=label)
    axes["A"].set_title("Mean excess: 0 if images are exchangeable")
    axes["A"].set_ylabel("UnitMem minus its null, mean over units")
    depth = excess["depth"] + np.random.default_rng(0).uniform(-0.3, 0.3, len(excess["depth"]))
    above = excess["unitmem"] > excess["null_p95"]
    axes["B"].plot(depth[~above], excess["excess"][~above], ".", ms=2.5, color=GREY, alpha=0.5, label="within its null")
    label = "above its own null's 95th percentile"
    axes["B"].plot(depth[above], excess["excess"][above], ".", ms=4, color=BLUE, label=label)
    axes["B"].set_title("Every unit: 1 in 20 lies above by chance")
    axes["B"].set_ylabel("UnitMem minus its null")
    for ax in axes.values():
        ax.axhline(0, color="black", lw=0.8)
        bottom, top = ax.get_ylim()
        ax.set_ylim(bottom, top + 0.2 * (top - bottom))  # room for the legend
        ax.legend(fontsize=8, loc="upper left")
        layer_ticks(ax, null["layer"])
    return figure
