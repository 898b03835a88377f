"""All units at a glance, each chart beside what exchangeable and held-out images give. No torch."""

from collections.abc import Mapping
from typing import Literal

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from memlight.display.figures import BLUE, GREEN, GREY, STYLE, layer_ticks, marker_spacing
from memlight.storage.tables import Table

NAMES = {"scored": "images scored", "null": "exchangeable images (null)", "held_out": "held-out images"}
STYLES = {"scored": (BLUE, "o-"), "null": (GREY, "s:"), "held_out": (GREEN, "^--")}

WIDTH = 1200
"""Columns into which a layer's units are sampled: more than a panel has pixels."""

ROWS_NAMED = 36
"""Layers of which a map says how many units they have."""

Scores = Mapping[str, NDArray[np.float64]]
"""``scored``, ``null`` and ``held_out`` of every unit, NaN for dead ones, as far as there are any; one at least."""


@rc_context(STYLE)
def unitmem_heatmap(layers: NDArray[np.str_], scores: Scores) -> Figure:
    """Every unit: a row per layer, its units from the highest score on the left, dead ones at the end.

    Args:
        layers: ``(U,)`` layer of each unit, in execution order.
        scores: ``(U,)`` each, in one panel each.
    """
    titles = {name: f"{_title(name)}\nmean {np.nanmean(values):.3f}" for name, values in scores.items()}
    return _maps(layers, scores, {name: np.ones(len(layers), dtype=bool) for name in scores}, titles, "grey: dead")


@rc_context(STYLE)
def unitmem_extremes(layers: NDArray[np.str_], scores: Scores) -> Figure:
    """The heatmap with only the top and bottom 10 % of all layers' units.

    Args:
        layers: ``(U,)`` layer of each unit, in execution order.
        scores: ``(U,)`` each, in one panel each; the limits are each panel's own.
    """
    shown, titles = {}, {}
    for name, values in scores.items():
        alive = np.sort(values[np.isfinite(values)])
        tenth = max(1, int(0.1 * len(alive)))
        low, high = alive[tenth - 1], alive[-tenth]
        shown[name] = ~((values > low) & (values < high))
        titles[name] = f"{_title(name)}\ntop from {high:.3f}, bottom to {low:.3f}"
    return _maps(layers, scores, shown, titles, "white: between, grey: dead")


def _title(name: str) -> str:
    return NAMES[name][0].upper() + NAMES[name][1:]


def _maps(
    layers: NDArray[np.str_],
    scores: Scores,
    shown: Mapping[str, NDArray[np.bool_]],
    titles: Mapping[str, str],
    note: str,
) -> Figure:
    names = list(dict.fromkeys(layers.tolist()))
    height = float(np.clip(0.22 * len(names), 1.6, 9))
    figure = Figure(figsize=(9.6, 1.3 + height), dpi=160, layout="constrained")
    axes = figure.subplots(1, len(scores), sharey=True, squeeze=False)[0]
    colours = colormaps["viridis"].with_extremes(bad="#c8c8c8", over="white")
    scale = Normalize(0, 1)
    for ax, (name, values) in zip(axes, scores.items(), strict=True):
        rows = np.stack([_sampled(values[layers == layer], shown[name][layers == layer]) for layer in names])
        edges = (0.0, 1.0, len(names) - 0.5, -0.5)
        ax.imshow(rows, extent=edges, aspect="auto", cmap=colours, norm=scale, interpolation="nearest")
        ax.hlines(np.arange(1, len(names)) - 0.5, 0, 1, color="white", lw=0.8 if len(names) <= ROWS_NAMED else 0)
        ax.set_title(titles[name], fontsize=9)
        ax.set_xticks([0, 0.5, 1], ["highest", "units of a layer", "lowest"], fontsize=8)
        for label, side in zip(ax.get_xticklabels(), ("left", "center", "right"), strict=True):
            label.set_horizontalalignment(side)
        ax.tick_params(axis="x", length=0)
        ax.spines[:].set_visible(False)
        ax.grid(visible=False)
    layer_ticks(axes[0], np.array(names), axis="y", most=ROWS_NAMED)
    for row, layer in enumerate(names if len(names) <= ROWS_NAMED else []):
        axes[-1].text(1.02, row, f"{int((layers == layer).sum())}", va="center", fontsize=7, color="#444444")
    label = f"UnitMem ({note})"
    figure.colorbar(ScalarMappable(scale, colours), ax=axes.tolist(), label=label, pad=0.04, fraction=0.03)
    return figure


def _sampled(scores: NDArray[np.float64], shown: NDArray[np.bool_]) -> NDArray[np.float64]:
    """A layer's scores in descending order, dead units last, as a row of `WIDTH` values; above 1 where not shown."""
    order = np.argsort(-scores, kind="stable")
    coloured = np.where(shown | np.isnan(scores), scores, 2.0)[order]
    sampled: NDArray[np.float64] = coloured[np.arange(WIDTH) * len(scores) // WIDTH]
    return sampled


@rc_context(STYLE)
def unitmem_overall(scores: Scores, extremes: Table) -> Figure:
    """Histogram of all units of all layers with the overall means, and where the top tenth of them lies.

    Args:
        scores: ``(U,)`` each.
        extremes: columns ``UNITMEM_EXTREMES``.
    """
    figure = Figure(figsize=(9.6, 3.8), dpi=160, layout="constrained")
    axes = figure.subplot_mosaic("AB", width_ratios=[1.1, 1])
    bins = np.linspace(0, 1, 51).tolist()
    for name, values in scores.items():
        alive = values[np.isfinite(values)]
        colour, line = STYLES[name]
        label = f"{NAMES[name]}: mean {alive.mean():.3f}"
        solid = name == "scored"
        axes["A"].hist(
            alive, bins, histtype="stepfilled" if solid else "step", color=colour, alpha=0.45 if solid else 1, lw=1.4,
            label=label,
        )  # fmt: skip
        axes["A"].axvline(alive.mean(), color=colour, ls=line[1:], lw=1.4)
        rows = extremes["scores"] == name
        x = np.arange(rows.sum())
        axes["B"].plot(x, extremes["top"][rows], line, color=colour, label=NAMES[name], markevery=marker_spacing(x))
    axes["A"].set_title("All units: exchangeable images do not score 0")
    axes["A"].set_xlabel("UnitMem; lines at the means")
    axes["A"].set_ylabel("number of units")
    axes["A"].set_ylim(0, 1.4 * axes["A"].get_ylim()[1])  # room for the legend
    side: Literal["upper right", "upper left"] = "upper right" if np.nanmean(scores["scored"]) < 0.5 else "upper left"
    axes["A"].legend(fontsize=8, loc=side, frameon=True, edgecolor="none", framealpha=0.9)
    axes["B"].axhline(0.1, color="black", lw=0.8)
    axes["B"].set_title("Top 10 % of all units: .1 if no layer has more")
    axes["B"].set_ylabel("share of the layer's units")
    axes["B"].set_ylim(0, max(0.2, 1.05 * float(np.nanmax(extremes["top"]))))
    axes["B"].legend(fontsize=8, loc="best")
    layer_ticks(axes["B"], extremes["layer"][extremes["scores"] == extremes["scores"][0]])
    return figure
