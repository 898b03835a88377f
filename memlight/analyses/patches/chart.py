"""Charts of a patch search: distances, how often sources are used, rarefaction; of one set of images or of several."""

from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from memlight.display.figures import BLUE, GREEN, GREY, ORANGE, PURPLE, STYLE
from memlight.storage.tables import Table

COLOURS = (BLUE, ORANGE, GREEN, PURPLE, "#E69F00", "#56B4E9", "#332288", "#882255")

BINS = 60

SOURCES = 50
"""Sources whose numbers of patches are drawn."""

LONGEST_NAME = 28

Named = Mapping[str, NDArray[np.float64]]


@rc_context(STYLE)
def patch_distances(distances: Named, metric: str) -> Figure:
    """Histograms of the distance to the nearest patch, of patches and of images' means.

    Args:
        distances: name of each set of images -> ``(images, patches)``.
        metric: what the distances are.
    """
    figure = Figure(figsize=(9.6, 3.7), dpi=160, layout="constrained")
    patches, images = figure.subplots(1, 2)
    highest = max(float(np.max(values)) for values in distances.values()) or 1.0
    bins = np.linspace(0, highest, BINS + 1)
    lines = cycle(("-", "--", ":"))  # of sets at one place all are seen
    for colour, line, (name, values) in zip(_colours(len(distances)), lines, distances.items(), strict=False):
        for ax, sample in ((patches, values.ravel()), (images, values.mean(1))):
            heights, _ = np.histogram(sample, bins)
            share = heights / len(sample)
            ax.stairs(share, bins, color=colour, ls=line, label=shortened(name), lw=1.8)
            ax.stairs(share, bins, color=colour, fill=True, alpha=0.12)
    patches.set_title("Patches: at 0 lie copies")
    images.set_title("Means over the patches of an image")
    for ax in (patches, images):
        ax.set_xlabel(f"{metric} distance to the nearest patch")
        ax.set_xlim(0, highest)
        ax.xaxis.set_major_locator(MaxNLocator(6))
    patches.set_ylabel("share of the patches")
    images.set_ylabel("share of the images")
    _legend(figure, patches, len(distances))
    return figure


@rc_context(STYLE)
def patch_origins(counts: Mapping[str, NDArray[np.int64]], curves: Mapping[str, Table]) -> Figure:
    """How many patches the most used sources give, and how many sources so many patches have.

    Args:
        counts: name of each set of images -> patches of every source that occurs, from the most used.
        curves: the same names -> columns ``PATCHES_RAREFACTION``.
    """
    figure = Figure(figsize=(9.6, 3.9), dpi=160, layout="constrained")
    used, rare = figure.subplots(1, 2)
    for colour, (name, most) in zip(_colours(len(counts)), counts.items(), strict=True):
        shown = most[:SOURCES]
        used.plot(np.arange(1, len(shown) + 1), shown, ".-", color=colour, label=shortened(name))
        curve = curves[name]
        rare.plot(curve["patches"], curve["sources"], color=colour)
    longest = max(curves.values(), key=lambda curve: int(curve["patches"][-1]))
    rare.plot(longest["patches"], longest["null"], "--", color=GREY, lw=1.2, label="if every patch had a random source")
    rare.plot(longest["patches"], longest["patches"], ":", color="black", lw=0.9, label="if all sources were different")
    used.set_title(f"The {SOURCES} most used sources")
    used.set_xlabel("source, from the most used")
    used.set_ylabel("patches that are nearest to it")
    used.set_ylim(bottom=0)
    rare.set_title("Rarefaction: lower reuses more")
    rare.set_xlabel("patches")
    rare.set_ylabel("sources among them (expected)")
    rare.set_xlim(left=0)
    rare.set_ylim(bottom=0)
    rare.xaxis.set_major_locator(MaxNLocator(5))
    rare.legend(fontsize=8, loc="upper left")
    _legend(figure, used, len(counts))
    return figure


@rc_context(STYLE)
def statistics_beside(table: Table, held_out: str | None) -> Figure:
    """Every statistic of several sets of images, as a panel each, with what uniform sources would give.

    Args:
        table: columns ``PATCHES_COMPARE``.
        held_out: which of them is the baseline.
    """
    models = list(dict.fromkeys(table["model"].tolist()))
    panels = [name for name in PANELS if np.isfinite(table["value"][table["statistic"] == name]).any()]
    columns = 3
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(9.6, 0.6 + rows * (1.0 + 0.28 * len(models))), dpi=160, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax in axes[len(panels) :]:
        ax.remove()
    for number, (ax, name) in enumerate(zip(axes, panels, strict=False)):
        here = table["statistic"] == name
        values, null = table["value"][here], table["null"][here]
        y = np.arange(len(models))
        colours = [GREEN if model == held_out else BLUE for model in models]
        ax.barh(y, np.where(np.isfinite(values), values, 0), color=colours, height=0.65)
        known = np.isfinite(null)
        ax.plot(null[known], y[known], "|", color="black", ms=13, mew=1.6)
        low, high = table["low"][here], table["high"][here]
        bars = np.isfinite(low)
        if bars.any():
            error = (values[bars] - low[bars], high[bars] - values[bars])
            ax.errorbar(values[bars], y[bars], xerr=error, fmt="none", ecolor="#333333", capsize=2, elinewidth=1)
        ax.set_title(PANELS[name], fontsize=9)
        ax.set_yticks(y, [shortened(model) for model in models] if number % columns == 0 else [], fontsize=8)
        ax.invert_yaxis()
        ax.grid(axis="y", visible=False)
        ax.grid(axis="x", visible=True)
        ax.xaxis.set_major_locator(MaxNLocator(4))
        ax.ticklabel_format(axis="x", style="sci", scilimits=(-3, 5))
        ax.xaxis.get_offset_text().set_fontsize(8)
        ax.tick_params(axis="x", labelsize=8)
        ax.set_xlim(left=0)
    words = "black mark: if every patch had a random source" + ("; green: held-out images" if held_out else "")
    figure.supxlabel(words, fontsize=8.5)
    return figure


PANELS = {
    "mean_distance": "mean distance: 0 is a copy",
    "same_position": "same-position share",
    "top_contributor_share": "top contributor's share",
    "sources_per_image": "sources of an image",
    "entropy_bits": "entropy (bits): low reuses more",
    "collision": "collision: chance of same source",
    "unique_sources": "sources that occur",
    "gini": "Gini: 0 if used alike",
    "top_1_percent_share": "share of the top 1 %",
}
"""Statistic -> title of its panel."""


def shortened(name: str) -> str:
    """The end of a long name."""
    return name if len(name) <= LONGEST_NAME else f"…{name[1 - LONGEST_NAME :]}"


def _colours(count: int) -> Sequence[object]:
    if count <= len(COLOURS):
        return COLOURS[:count]
    return [colormaps["turbo"](0.05 + 0.9 * i / (count - 1)) for i in range(count)]


def _legend(figure: Figure, ax: Axes, count: int) -> None:
    if count > 1:
        figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=min(count, 4), fontsize=8.5)
