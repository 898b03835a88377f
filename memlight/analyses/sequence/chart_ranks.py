"""Which sequences of a set are learned: charts by rank and by appearances, from their tables. No torch."""

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from memlight.analyses.sequence.chart import CEILING, FLOOR, band, hues, set_name
from memlight.display.figures import STYLE, spread_over
from memlight.storage.tables import Table

MOST_MAPS = 6
"""Sets whose heat map is drawn, spread over all of them."""


@rc_context(STYLE)
def sequence_ranks(ranks: Table, appearances: Table, learned: Table, sets: Table, *, uneven: bool) -> Figure:
    """Accuracy by rank and by appearances, appearances until a sequence is learned, and the highest rank learned.

    Args:
        ranks: columns ``RANKS`` of one run, neighbouring ranks together where they are many.
        appearances: columns ``APPEARANCES`` of it.
        learned: columns ``LEARNED`` of it.
        sets: columns ``SETS`` of it.
        uneven: whether low ranks are drawn more; then ranks are on a logarithmic axis, counted from 1.
    """
    figure = Figure(figsize=(9.6, 7.0), dpi=160, layout="constrained")
    axes = figure.subplot_mosaic("AB;CD")
    indices = np.unique(ranks["set"]).tolist()
    begins = dict(zip(sets["set"].tolist(), sets["begins"].tolist(), strict=True))
    shift = int(uneven)
    for colour, index in zip(hues(len(indices)), indices, strict=True):
        name = set_name(index)
        of_set = ranks["set"] == index
        band(axes["A"], ranks["rank"][of_set] + shift, ranks, "accuracy", of_set, colour, name)
        in_bins = appearances["set"] == index
        band(axes["B"], appearances["appearances"][in_bins], appearances, "accuracy", in_bins, colour, name)
        reached = of_set & (ranks["saturated"] > 0)
        needed = "appearances_at_saturation"
        band(axes["C"], ranks["rank"][reached] + shift, ranks, needed, reached, colour, name)
        own = (learned["set"] == index) & (learned["step"] >= begins[index])
        own &= learned["step"] <= sets["ends"][sets["set"] == index][0]
        band(axes["D"], learned["step"][own] - begins[index], learned, "max_rank", own, colour, name)
    first = ranks["set"] == indices[0]
    if np.isfinite(ranks["ceiling"][first]).any():
        label = "ceiling: knows the set and its law"
        axes["A"].plot(
            ranks["rank"][first] + shift, ranks["ceiling"][first], color="black", lw=1, ls=CEILING, label=label
        )
    for name in ("A", "B"):
        axes[name].axhline(0.5, color="black", lw=1, ls=FLOOR, label="floor: a coin")
        axes[name].set_ylabel("share of the sequence's bits")
    axes["A"].set_title("Accuracy by rank: floor is a coin")
    axes["B"].set_title("Accuracy by appearances: floor is a coin")
    low, high = axes["B"].get_ylim()
    axes["B"].set_ylim(max(low, -0.05), min(high, 1.05))  # intervals of two members know no bounds
    axes["B"].set_xscale("symlog", linthresh=1)
    axes["B"].set_xlim(left=-0.2)
    axes["B"].set_xlabel("times drawn in the set's own training")
    axes["C"].set_title("Draws until 90 % of its bits are right")
    axes["C"].set_ylabel("times drawn")
    axes["C"].set_ylim(0, _top(ranks["appearances_at_saturation"]))
    if uneven:
        axes["C"].set_yscale("symlog", linthresh=1)
    axes["D"].set_title("Highest rank learned: \N{MINUS SIGN}1 is none")
    axes["D"].set_ylabel("rank")
    axes["D"].set_ylim(-0.06 * _top(learned["max_rank"]), _top(learned["max_rank"]))
    axes["D"].set_xlabel("gradient steps since the set's training began")
    for name in ("A", "C"):
        axes[name].set_xlabel("rank + 1" if uneven else "rank (all drawn alike)")
        if uneven:
            axes[name].set_xscale("log")
    handles, labels = axes["A"].get_legend_handles_labels()
    figure.legend(*zip(*spread_over(list(zip(handles, labels, strict=True)), 12), strict=True),
                  loc="outside lower center", ncols=4, fontsize=8)  # fmt: skip
    return figure


def _top(values: NDArray[np.float64]) -> float:
    """Upper end of an axis on which the means are seen, whatever the intervals of few members."""
    return 1.25 * max(float(np.nanmax(values, initial=0.0)), 1.0)


@rc_context(STYLE)
def sequence_rank_time(table: Table, sets: Table) -> Figure:
    """Heat maps of accuracy, groups of ranks by gradient steps, one for each set; mean over members.

    Args:
        table: columns ``RANK_TIME``.
        sets: columns ``SETS`` of the same run.
    """
    indices = spread_over(np.unique(table["set"]).tolist(), MOST_MAPS)
    rows = -(-len(indices) // 2)
    size = (9.6, 0.9 + 2.6 * rows)
    figure = Figure(figsize=size, dpi=160, layout="constrained")
    grid = figure.subplots(rows, min(2, len(indices)), squeeze=False)
    scale, colours = Normalize(0.5, 1), colormaps["viridis"].with_extremes(bad="#e4e4e4")
    for ax, index in zip(grid.flat, indices, strict=False):
        _map(ax, {name: column[table["set"] == index] for name, column in table.items()}, np.unique(table["step"]))
        for step in np.unique(sets["begins"][sets["begins"] > 0]):
            ax.axvline(step, color="black", lw=1, ls=(0, (2, 2)))
        ax.set_title(set_name(index))
        ax.set_xlabel("gradient steps")
        ax.xaxis.set_major_locator(MaxNLocator(5))
        ax.set_ylabel("rank")
    for ax in list(grid.flat)[len(indices) :]:
        ax.remove()
    bar = figure.colorbar(
        ScalarMappable(scale, colours),
        ax=list(grid.flat)[: len(indices)],
        label="share of bits right: 0.5 is a coin",
        pad=0.02,
    )
    bar.ax.yaxis.set_major_locator(MaxNLocator(5))
    return figure


def _map(ax: Axes, table: Table, steps: NDArray[np.int64]) -> None:
    """One set: a row for each group of ranks, from the lowest above; grey before the set exists."""
    lows = np.unique(table["rank_low"])
    values = np.full((len(lows), len(steps)), np.nan)
    values[np.searchsorted(lows, table["rank_low"]), np.searchsorted(steps, table["step"])] = table["accuracy"]
    middles = (steps[1:] + steps[:-1]) / 2
    edges = np.concatenate([steps[:1], middles, steps[-1:]]) if len(steps) > 1 else np.array([steps[0], steps[0] + 1])
    colours = colormaps["viridis"].with_extremes(bad="#e4e4e4")
    ax.pcolormesh(edges, np.arange(len(lows) + 1), values, cmap=colours, norm=Normalize(0.5, 1))
    ticks = np.unique(np.linspace(0, len(lows) - 1, min(6, len(lows))).round().astype(int))
    highs = [int(table["rank_high"][table["rank_low"] == low][0]) for low in lows]
    names = [f"{low}" if low == highs[i] else f"{low}-{highs[i]}" for i, low in enumerate(lows.tolist())]
    ax.set_yticks(ticks + 0.5, [names[i] for i in ticks], fontsize=8)
    ax.set_ylim(len(lows), 0)
    ax.set_facecolor("#e4e4e4")
    ax.grid(visible=False)
