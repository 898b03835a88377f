"""Learning curves of sequence experiments, and what is learned by position and rank, from their tables. No torch."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from memlight.display.figures import BLUE, GREEN, GREY, ORANGE, PURPLE, STYLE, marker_spacing, spread_over
from memlight.storage.tables import Table

HUES = (BLUE, ORANGE, GREEN, PURPLE, GREY)
CEILING, FLOOR = (0, (5, 2)), (0, (1, 1.5))
"""Dashes of the bounds."""

LABELLED = 12
"""Lines up to which each has its name beside the panels."""

MOST_MAPS = 6
"""Sets whose heat map is drawn, spread over all of them."""

ABSENT = "#e4e4e4"
"""Colour of what does not exist in a heat map."""

_SINCE = "gradient steps since the set's training began"

_BOUNDS = {"ceiling": (CEILING, "ceiling: knows the set and its law"), "floor": (FLOOR, "floor: a coin")}


@rc_context(STYLE)
def sequence_switches(table: Table, sets: Table) -> Figure:
    """Accuracy and loss of every set while it is trained, aligned at the switch that began it.

    Args:
        table: columns ``TABLE`` of one run.
        sets: columns ``SETS`` of it.
    """
    figure = Figure(figsize=(9.6, 3.9), dpi=160, layout="constrained")
    axes = dict(zip(("accuracy", "loss"), figure.subplots(1, 2), strict=True))
    for colour, index, of_set in _by_set(table):
        rows = of_set & table["trained"]
        for name, ax in axes.items():
            _band(ax, table["since_switch"][rows], table, name, rows, colour, _set_name(index))
    for name, ax in axes.items():
        _bounds(ax, sets, name)
        ax.set_xlabel(_SINCE)
    axes["accuracy"].set(title="Accuracy since the switch: floor is a coin", ylabel="share of bits predicted")
    axes["loss"].set(title="Loss since the switch: ln 2 is a coin", ylabel="nats per bit")
    _legend(figure, axes["accuracy"], len(np.unique(table["set"])))
    return figure


@rc_context(STYLE)
def sequence_time(table: Table, sets: Table, training: Table) -> Figure:
    """Every set over the whole training, also after its own; the training loss; retrieval of models with a memory.

    Args:
        table: columns ``TABLE`` of one run.
        sets: columns ``SETS`` of it.
        training: columns ``TRAINING`` of it.
    """
    remembered = bool(np.isfinite(table["retrieval"]).any())
    panels = ("accuracy", "retrieval", "loss") if remembered else ("accuracy", "loss")
    figure = Figure(figsize=(9.6, 1.0 + 2.3 * len(panels)), dpi=160, layout="constrained")
    axes = dict(zip(panels, figure.subplots(len(panels), 1, sharex=True), strict=True))
    for colour, index, rows in _by_set(table):
        for name in panels[:-1]:
            _band(axes[name], table["step"][rows], table, name, rows, colour, _set_name(index))
    _bounds(axes["accuracy"], sets, "accuracy")
    every = np.ones(len(training["step"]), dtype=bool)
    _band(axes["loss"], training["step"], training, "loss", every, "black", "batches trained on")
    _bounds(axes["loss"], sets, "loss")
    axes["accuracy"].set(title="Accuracy on every set: floor where it is forgotten", ylabel="share of bits predicted")
    axes["loss"].set(title="Training loss: ln 2 is a coin", ylabel="nats per bit", xlabel="gradient steps")
    if remembered:
        title = "Retrieval top-1: 0 where the best-scoring memory is never the right one"
        axes["retrieval"].set(title=title, ylabel="share of positions")
        axes["retrieval"].set_ylim(bottom=min(0.0, axes["retrieval"].get_ylim()[0]))
    for ax in axes.values():
        _switches(ax, sets, lw=0.7, ls=(0, (1, 2)))
    _legend(figure, axes["accuracy"], len(np.unique(table["set"])))
    return figure


@rc_context(STYLE)
def sequence_runs(table: Table, sets: Table) -> Figure:
    """Several runs side by side: accuracy on the first and on the last set while it is trained.

    Args:
        table: columns ``TABLE`` of all runs.
        sets: columns ``SETS`` of them; the bounds are those of the first run.
    """
    runs = list(dict.fromkeys(table["run"].tolist()))
    last = {run: int(sets["set"][sets["run"] == run].max()) for run in runs}
    switched = any(last.values())
    figure = Figure(figsize=(9.6, 4.0 + 0.16 * len(runs)), dpi=160, layout="constrained")
    axes = figure.subplots(1, 2 if switched else 1, sharey=True, squeeze=False)[0]
    for ax, chosen in zip(axes, (dict.fromkeys(runs, 0), last), strict=False):
        for colour, run in zip(hues(len(runs)), runs, strict=True):
            if ax is not axes[0] and chosen[run] == 0:
                continue
            rows = (table["run"] == run) & (table["set"] == chosen[run]) & table["trained"]
            _band(ax, table["since_switch"][rows], table, "accuracy", rows, colour, run)
        _bounds(ax, {name: column[sets["run"] == runs[0]] for name, column in sets.items()}, "accuracy")
        ax.set_xlabel(_SINCE)
    axes[0].set(title="First set: floor is a coin", ylabel="share of bits predicted")
    if switched:
        axes[1].set_title("Last set, after the switch")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8)
    return figure


@rc_context(STYLE)
def sequence_positions(positions: Table, sets: Table) -> Figure:
    """Accuracy by the number of bits already seen, at the end of each set's own training.

    Args:
        positions: columns ``POSITIONS`` of one run.
        sets: columns ``SETS`` of it.
    """
    figure = Figure(figsize=(9.6, 3.9), dpi=160, layout="constrained")
    ax = figure.subplots()
    for colour, index, rows in _by_set(positions):
        _band(ax, positions["position"][rows], positions, "accuracy", rows, colour, _set_name(index))
    _first_ceiling(ax, positions, "position")
    _bound(ax, "floor", float(np.nanmean(sets["floor_accuracy"])))
    ax.set(
        title="Accuracy of each bit, at the end of its set's training: floor is a coin",
        xlabel="bits of the sequence already seen",
        ylabel="share predicted",
    )
    ax.xaxis.set_major_locator(MaxNLocator(11, integer=True))
    _legend(figure, ax, len(np.unique(positions["set"])))
    return figure


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
    begins = dict(zip(sets["set"].tolist(), sets["begins"].tolist(), strict=True))
    shift = int(uneven)
    for colour, index, of_set in _by_set(ranks):
        name = _set_name(index)
        _band(axes["A"], ranks["rank"][of_set] + shift, ranks, "accuracy", of_set, colour, name)
        in_bins = appearances["set"] == index
        _band(axes["B"], appearances["appearances"][in_bins], appearances, "accuracy", in_bins, colour, name)
        reached = of_set & (ranks["saturated"] > 0)
        needed = "appearances_at_saturation"
        _band(axes["C"], ranks["rank"][reached] + shift, ranks, needed, reached, colour, name)
        own = (learned["set"] == index) & (learned["step"] >= begins[index])
        own &= learned["step"] <= sets["ends"][sets["set"] == index][0]
        _band(axes["D"], learned["step"][own] - begins[index], learned, "max_rank", own, colour, name)
    _first_ceiling(axes["A"], ranks, "rank", shift)
    for name in ("A", "B"):
        _bound(axes[name], "floor", 0.5)
        axes[name].set_ylabel("share of the sequence's bits")
    axes["A"].set_title("Accuracy by rank: floor is a coin")
    low, high = axes["B"].get_ylim()
    axes["B"].set_ylim(max(low, -0.05), min(high, 1.05))  # intervals of two members know no bounds
    axes["B"].set_xscale("symlog", linthresh=1)
    axes["B"].set_xlim(left=-0.2)
    axes["B"].set(title="Accuracy by appearances: floor is a coin", xlabel="times drawn in the set's own training")
    axes["C"].set(title="Draws until 90 % of its bits are right", ylabel="times drawn")
    axes["C"].set_ylim(0, _top(ranks["appearances_at_saturation"]))
    if uneven:
        axes["C"].set_yscale("symlog", linthresh=1)
    axes["D"].set(title="Highest rank learned: \N{MINUS SIGN}1 is none", ylabel="rank", xlabel=_SINCE)
    axes["D"].set_ylim(-0.06 * _top(learned["max_rank"]), _top(learned["max_rank"]))
    for name in ("A", "C"):
        axes[name].set_xlabel("rank + 1" if uneven else "rank (all drawn alike)")
        if uneven:
            axes[name].set_xscale("log")
    handles, labels = axes["A"].get_legend_handles_labels()
    shown = spread_over(list(zip(handles, labels, strict=True)), 12)
    figure.legend(*zip(*shown, strict=True), loc="outside lower center", ncols=4, fontsize=8)
    return figure


@rc_context(STYLE)
def sequence_rank_time(table: Table, sets: Table) -> Figure:
    """Heat maps of accuracy, groups of ranks by gradient steps, one for each set; mean over members.

    Args:
        table: columns ``RANK_TIME`` of one run.
        sets: columns ``SETS`` of the same run.
    """
    indices = spread_over(np.unique(table["set"]).tolist(), MOST_MAPS)
    rows = -(-len(indices) // 2)
    figure = Figure(figsize=(9.6, 0.9 + 2.6 * rows), dpi=160, layout="constrained")
    every = list(figure.subplots(rows, min(2, len(indices)), squeeze=False).flat)
    axes, unused = every[: len(indices)], every[len(indices) :]
    for ax, index in zip(axes, indices, strict=True):
        _map(ax, {name: column[table["set"] == index] for name, column in table.items()}, np.unique(table["step"]))
        _switches(ax, sets, lw=1, ls=(0, (2, 2)))
        ax.set(title=_set_name(index), xlabel="gradient steps", ylabel="rank")
        ax.xaxis.set_major_locator(MaxNLocator(5))
    for ax in unused:
        ax.remove()
    colours = ScalarMappable(Normalize(0.5, 1), colormaps["viridis"].with_extremes(bad=ABSENT))
    bar = figure.colorbar(colours, ax=axes, label="share of bits right: 0.5 is a coin", pad=0.02)
    bar.ax.yaxis.set_major_locator(MaxNLocator(5))
    return figure


def hues(count: int) -> list[str]:
    """So many colours that stay apart, or a sequence of them where there are too many for that."""
    if count <= len(HUES):
        return list(HUES[:count])
    return [to_hex(colormaps["viridis"](0.92 * index / (count - 1))) for index in range(count)]


def _by_set(table: Table) -> Iterator[tuple[str, int, NDArray[np.bool_]]]:
    """Colour, index and rows of every set of a table."""
    indices = np.unique(table["set"]).tolist()
    for colour, index in zip(hues(len(indices)), indices, strict=True):
        yield colour, index, table["set"] == index


def _set_name(index: int) -> str:
    return "set 0, from the start" if index == 0 else f"set {index}, after switch {index}"


def _band(
    ax: Axes, x: NDArray[np.float64], table: Table, name: str, rows: NDArray[np.bool_], colour: str, label: str
) -> None:
    """A mean over members with its interval as a band; nothing where no value is finite."""
    middle, low, high = (table[f"{name}{end}"][rows] for end in ("", "_low", "_high"))
    if not np.isfinite(middle).any():
        return
    ax.fill_between(x, low, high, color=colour, alpha=0.2, lw=0)
    line = "o-" if len(x) <= 40 else "-"
    ax.plot(x, middle, line, color=colour, ms=3, lw=1.3, label=label, markevery=marker_spacing(x))


def _bounds(ax: Axes, sets: Table, name: str) -> None:
    """Ceiling and floor as horizontal lines, mean over the sets, where they are known."""
    for bound in _BOUNDS:
        values = sets[f"{bound}_{name}"]
        if np.isfinite(values).any():
            _bound(ax, bound, float(np.nanmean(values)))


def _bound(ax: Axes, bound: str, height: float) -> None:
    dashes, label = _BOUNDS[bound]
    ax.axhline(height, color="black", lw=1, ls=dashes, label=label)


def _first_ceiling(ax: Axes, table: Table, x: str, shift: int = 0) -> None:
    """The first set's ceiling as a curve over a column of the table, where it is known."""
    first = table["set"] == table["set"].min()
    if np.isfinite(table["ceiling"][first]).any():
        dashes, label = _BOUNDS["ceiling"]
        ax.plot(table[x][first] + shift, table["ceiling"][first], color="black", lw=1, ls=dashes, label=label)


def _switches(ax: Axes, sets: Table, **line: Any) -> None:
    """Vertical lines where sets begin, the first one aside."""
    for step in np.unique(sets["begins"][sets["begins"] > 0]):
        ax.axvline(step, color="black", **line)


def _top(values: NDArray[np.float64]) -> float:
    """Upper end of an axis on which the means are seen, whatever the intervals of few members."""
    return 1.25 * max(float(np.nanmax(values, initial=0.0)), 1.0)


def _legend(figure: Figure, ax: Axes, lines: int) -> None:
    """Names of the lines below the panels, of many lines those of some."""
    handles, labels = ax.get_legend_handles_labels()
    if lines > LABELLED:
        kept = [*range(0, lines, -(-lines // LABELLED)), *range(lines, len(labels))]
        handles, labels = [handles[i] for i in kept], [labels[i] for i in kept]
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8)


def _map(ax: Axes, table: Table, steps: NDArray[np.int64]) -> None:
    """One set: a row for each group of ranks, from the lowest above; grey before the set exists."""
    lows = np.unique(table["rank_low"])
    values = np.full((len(lows), len(steps)), np.nan)
    values[np.searchsorted(lows, table["rank_low"]), np.searchsorted(steps, table["step"])] = table["accuracy"]
    middles = (steps[1:] + steps[:-1]) / 2
    edges = np.concatenate([steps[:1], middles, steps[-1:]]) if len(steps) > 1 else np.array([steps[0], steps[0] + 1])
    colours = colormaps["viridis"].with_extremes(bad=ABSENT)
    ax.pcolormesh(edges, np.arange(len(lows) + 1), values, cmap=colours, norm=Normalize(0.5, 1))
    ticks = np.unique(np.linspace(0, len(lows) - 1, min(6, len(lows))).round().astype(int))
    highs = [int(table["rank_high"][table["rank_low"] == low][0]) for low in lows]
    names = [f"{low}" if low == highs[i] else f"{low}-{highs[i]}" for i, low in enumerate(lows.tolist())]
    ax.set_yticks(ticks + 0.5, [names[i] for i in ticks], fontsize=8)
    ax.set_ylim(len(lows), 0)
    ax.set_facecolor(ABSENT)
    ax.grid(visible=False)
