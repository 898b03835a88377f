"""What is kept of earlier sets, how fast later ones are learned, what attention and keys look like. No torch."""

from typing import Any

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from memlight.analyses.sequence.chart import ABSENT, FLOOR, hues
from memlight.display.figures import BLUE, LONGEST_TICK, MOST_PANELS, ORANGE, STYLE, spread_over
from memlight.storage.tables import Table

MOST_WRITTEN = 8
"""Sets up to which a matrix has its numbers written in."""

ERROR: dict[str, Any] = {"fmt": "o", "capsize": 3, "elinewidth": 1.1}


@rc_context(STYLE)
def sequence_forgetting(table: Table) -> Figure:
    """Accuracy on every set at the end of every set's training, and the share of what was learned that is left.

    Args:
        table: columns ``FORGETTING`` of one run, of two sets or more.
    """
    figure = Figure(figsize=(9.6, 4.4), dpi=160, layout="constrained")
    left, right = figure.subplots(1, 2)
    _matrix(left, table, "accuracy", Normalize(0.5, 1), "share of bits predicted")
    left.set_title("Accuracy on each set: 0.5 is a coin")
    _matrix(right, table, "retained", Normalize(0, 1), "share left")
    right.set_title("Left of what was learned: 0 is forgotten")
    return figure


@rc_context(STYLE)
def sequence_savings(savings: Table, share: float) -> Figure:
    """Steps until each set is learned, and the savings of the last set, with intervals over members.

    Args:
        savings: columns ``SAVINGS`` of all runs.
        share: of the way from floor to ceiling that counts as learned.
    """
    runs = list(dict.fromkeys(savings["run"].tolist()))
    figure = Figure(figsize=(9.6, 3.6 + 0.14 * len(runs)), dpi=160, layout="constrained")
    steps, last = figure.subplots(1, 2)
    for place, (colour, run) in enumerate(zip(hues(len(runs)), runs, strict=True)):
        rows = savings["run"] == run
        _points(steps, savings["set"][rows] + _beside(place, len(runs)), savings, "steps", rows, colour, run)
        final = rows & (savings["set"] == savings["set"][rows].max())
        _points(last, np.array([place]), savings, "savings", final, colour, run)
    steps.set(title=f"Steps to {100 * share:g} % of the way to the ceiling", ylabel="gradient steps", xlabel="set")
    steps.set_xticks(np.unique(savings["set"]))
    steps.set_ylim(bottom=0)
    last.axhline(0, color="black", lw=0.8)
    last.set_title("Savings, last set: 0 if as slow as the first")
    last.set_ylabel("1 \N{MINUS SIGN} steps / steps of the first set")
    names = [run if len(run) <= LONGEST_TICK else f"…{run[1 - LONGEST_TICK :]}" for run in runs]
    turned = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if len(runs) > 2 else {}
    last.set_xticks(range(len(runs)), names, **turned)
    last.set_xlim(-0.6, len(runs) - 0.4)
    if len(runs) > 1:
        figure.legend(*steps.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8)
    return figure


@rc_context(STYLE)
def sequence_interventions(swaps: Table, probes: Table) -> Figure:
    """Accuracy with parts of an earlier snapshot swapped in, and batches that a fork needs to learn new sequences.

    Args:
        swaps: columns ``SWAPS`` of one run; may be empty.
        probes: columns ``PROBES`` of it; may be empty.
    """
    panels = [(draw, table) for draw, table in ((_swaps, swaps), (_probes, probes)) if len(table["run"])]
    figure = Figure(figsize=(9.6, 4.0), dpi=160, layout="constrained")
    for ax, (draw, table) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        draw(ax, table)
    return figure


@rc_context(STYLE)
def attention_maps(maps_HNN: NDArray[np.float64], names: list[str], query: str) -> Figure:
    """What every head looks at: a row for each prefix or position, a column for each bit; one member.

    Args:
        maps_HNN: ``(H, N, N)`` rows sum to 1; NaN where nothing can be seen. At most `MOST_PANELS` heads are drawn,
            on a scale that ends at the largest share in the second half of the rows.
        names: of the heads.
        query: what a row is.
    """
    shown = spread_over(list(zip(names, maps_HNN, strict=True)), MOST_PANELS)
    columns = min(4, len(shown))
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(2.4 * columns + 0.9, 0.7 + 2.3 * rows), dpi=160, layout="constrained")
    every = list(figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat)
    axes, unused = every[: len(shown)], every[len(shown) :]
    long = maps_HNN.shape[1] // 2  # short prefixes have large shares whatever is learned
    top = max(float(np.nanmax(picture[long:], initial=0)) for _, picture in shown)
    scale = Normalize(0, top or 1)
    for ax, (name, picture) in zip(axes, shown, strict=True):
        _picture(ax, picture, scale)
        ax.set_aspect("equal")
        ax.set_title(name, fontsize=9)
    for ax in unused:
        ax.remove()
    figure.supxlabel("bit looked at", fontsize=9.5)
    figure.supylabel(query, fontsize=9.5)
    colours = ScalarMappable(scale, _palette())
    figure.colorbar(colours, ax=axes, label="share of attention", extend="max", fraction=0.04, pad=0.02)
    return figure


@rc_context(STYLE)
def attention_and_keys(pictures: dict[str, NDArray[np.float64]], weights: Table) -> Figure:
    """A over the longest prefix and B as images, of one member, above what is measured of all.

    Args:
        pictures: title and ``(H, N)``, rows sum to 1, of two pictures or four.
        weights: columns ``WEIGHTS`` of one run.
    """
    measures = list(dict.fromkeys(weights["measure"].tolist()))
    steps = np.unique(weights["step"])
    pairs = -(-len(pictures) // 2)
    figure = Figure(figsize=(9.6, 2.4 * pairs + 2.6), dpi=160, layout="constrained")
    layout = ";".join(["".join(chr(65 + 2 * row + column) for column in (0, 1)) for row in range(pairs)] + ["ZZ"])
    axes = figure.subplot_mosaic(layout, height_ratios=[1.0] * pairs + [1.1])
    scale = Normalize(0, max(float(np.nanmax(picture)) for picture in pictures.values()))
    ax = axes.pop("Z")
    for image, (title, picture) in zip(axes.values(), pictures.items(), strict=True):
        _picture(image, picture, scale)
        image.set_title(title, fontsize=9.5)
        image.set(ylabel="head", xlabel="bit")
    colours = ScalarMappable(scale, _palette())
    figure.colorbar(colours, ax=list(axes.values()), label="weight", fraction=0.03, pad=0.02)
    for place, (colour, step) in enumerate(zip(hues(len(steps)), steps.tolist(), strict=True)):
        rows = weights["step"] == step
        where = np.array([measures.index(name) for name in weights["measure"][rows].tolist()])
        middle, low, high = (weights[name][rows] for name in ("value", "low", "high"))
        error = np.nan_to_num(np.stack([middle - low, high - middle]))
        ax.errorbar(where + _beside(place, len(steps)), middle, error, color=colour, label=f"step {step}", **ERROR)
    ax.axhline(0, color="black", lw=0.8)
    ax.set_title("Mean over members: correlations are 0 if unrelated")
    ax.set_xticks(range(len(measures)), [name.replace(" ", "\n", 1) for name in measures], fontsize=8)
    ax.set_xlim(-0.6, len(measures) - 0.4)
    ax.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _swaps(ax: Axes, swaps: Table) -> None:
    columns = zip(swaps["swapped"], swaps["step"], swaps["set"], strict=True)
    labels = [f"{name}\nstep {step}, set {index}" for name, step, index in columns]
    x = np.arange(len(labels))
    _points(ax, x, swaps, "accuracy", np.ones(len(labels), dtype=bool), BLUE, "swapped in")
    ax.plot(x + 0.12, swaps["before"], "D", color=ORANGE, ms=4, lw=0, label="as trained")
    ax.axhline(0.5, color="black", lw=1, ls=FLOOR, label="floor: a coin")
    ax.set(title="Parts of an earlier snapshot swapped in", ylabel="share of bits predicted")
    ax.set_xticks(x, labels, fontsize=8, rotation=30, ha="right", rotation_mode="anchor")
    ax.set_xlim(-0.6, len(labels) - 0.4)
    ax.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))


def _probes(ax: Axes, probes: Table) -> None:
    every = np.ones(len(probes["step"]), dtype=bool)
    batches = {"batches": probes["batches"], "batches_low": probes["low"], "batches_high": probes["high"]}
    _points(ax, probes["step"], batches, "batches", every, BLUE, "members that got there")
    ax.set(title="Fork: batches to learn novel sequences", ylabel="batches")
    columns = zip(probes["step"], probes["reached"], probes["members"], strict=True)
    ax.set_xticks(probes["step"], [f"{step}\n{reached} of {members}" for step, reached, members in columns], fontsize=8)
    ax.set_xlabel("gradient steps at the fork, and members that got there")
    ax.set_ylim(bottom=0)


def _beside(place: int, count: int) -> float:
    """How far from its tick the mark of one of several runs or steps stands."""
    return 0.5 * (place - (count - 1) / 2) / max(1, count)


def _points(
    ax: Axes, x: NDArray[Any], table: Table, name: str, rows: NDArray[np.bool_], colour: str, label: str
) -> None:
    """Means with their intervals as bars, where they are finite."""
    middle, low, high = (table[f"{name}{end}"][rows] for end in ("", "_low", "_high"))
    shown = np.isfinite(middle)
    if not shown.any():
        return
    bars = np.stack([middle - low, high - middle])[:, shown]
    error = np.where(np.isfinite(bars), bars, 0)
    ax.errorbar(x[shown], middle[shown], error, color=colour, label=label, **ERROR)


def _matrix(ax: Axes, table: Table, name: str, scale: Normalize, label: str) -> None:
    """A number by the set trained last (rows) and the set tested (columns), written in where the sets are few."""
    sets = np.unique(np.concatenate([table["after"], table["set"]]))
    places = np.searchsorted(sets, table["after"]), np.searchsorted(sets, table["set"])
    values, low, high = np.full((3, len(sets), len(sets)), np.nan)
    for grid, end in ((values, ""), (low, "_low"), (high, "_high")):
        grid[places] = table[f"{name}{end}"]
    palette = colormaps["viridis"].with_extremes(bad="#f2f2f2")
    ax.imshow(values, cmap=palette, norm=scale, interpolation="nearest")
    if len(sets) <= MOST_WRITTEN:
        for (row, column), value in np.ndenumerate(values):
            if np.isfinite(value):
                red, green, blue, _ = palette(scale(value))
                dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.55
                half = (high[row, column] - low[row, column]) / 2
                text = f"{value:.2f}" + (f"\n±{half:.2f}" if np.isfinite(half) and len(sets) <= 5 else "")
                text = text.replace("-", "\N{MINUS SIGN}")
                ax.text(column, row, text, ha="center", va="center", fontsize=7.5, color="white" if dark else "black")
    step = -(-len(sets) // 12)
    for set_ticks in (ax.set_xticks, ax.set_yticks):
        set_ticks(range(0, len(sets), step), [str(index) for index in sets[::step]])
    ax.set(xlabel="accuracy on set", ylabel="at the end of training on set")
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)
    ax.figure.colorbar(ScalarMappable(scale, palette), ax=ax, label=label, fraction=0.045, pad=0.02)


def _picture(ax: Axes, picture: NDArray[np.float64], scale: Normalize) -> None:
    ax.imshow(picture, cmap=_palette(), norm=scale, interpolation="nearest", aspect="auto")
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    ax.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    ax.grid(visible=False)


def _palette() -> Colormap:
    return colormaps["viridis"].with_extremes(bad=ABSENT)
