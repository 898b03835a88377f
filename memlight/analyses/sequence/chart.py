"""Learning curves of sequence experiments from their tables. No torch."""

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from memlight.display.figures import BLUE, GREEN, GREY, ORANGE, PURPLE, STYLE, marker_spacing
from memlight.storage.tables import Table

HUES = (BLUE, ORANGE, GREEN, PURPLE, GREY)
CEILING, FLOOR = (0, (5, 2)), (0, (1, 1.5))
"""Dashes of the bounds."""

LABELLED = 12
"""Lines up to which each has its name beside the panels."""


@rc_context(STYLE)
def sequence_switches(table: Table, sets: Table) -> Figure:
    """Accuracy and loss of every set while it is trained, aligned at the switch that began it.

    Args:
        table: columns ``TABLE`` of one run.
        sets: columns ``SETS`` of it.
    """
    figure = Figure(figsize=(9.6, 3.9), dpi=160, layout="constrained")
    axes = dict(zip(("accuracy", "loss"), figure.subplots(1, 2), strict=True))
    indices = np.unique(table["set"]).tolist()
    colours = hues(len(indices))
    for colour, index in zip(colours, indices, strict=True):
        rows = (table["set"] == index) & table["trained"]
        for name, ax in axes.items():
            band(ax, table["since_switch"][rows], table, name, rows, colour, set_name(index))
    bounds(axes["accuracy"], sets, "accuracy")
    bounds(axes["loss"], sets, "loss")
    axes["accuracy"].set_title("Accuracy since the switch: floor is a coin")
    axes["accuracy"].set_ylabel("share of bits predicted")
    axes["loss"].set_title("Loss since the switch: ln 2 is a coin")
    axes["loss"].set_ylabel("nats per bit")
    for ax in axes.values():
        ax.set_xlabel("gradient steps since the set's training began")
    _legend(figure, axes["accuracy"], len(indices))
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
    indices = np.unique(table["set"]).tolist()
    for colour, index in zip(hues(len(indices)), indices, strict=True):
        rows = table["set"] == index
        for name in panels[:-1]:
            band(axes[name], table["step"][rows], table, name, rows, colour, set_name(index))
    bounds(axes["accuracy"], sets, "accuracy")
    every = np.ones(len(training["step"]), dtype=bool)
    band(axes["loss"], training["step"], training, "loss", every, "black", "batches trained on")
    bounds(axes["loss"], sets, "loss")
    axes["accuracy"].set_title("Accuracy on every set: floor where it is forgotten")
    axes["accuracy"].set_ylabel("share of bits predicted")
    axes["loss"].set_title("Training loss: ln 2 is a coin")
    axes["loss"].set_ylabel("nats per bit")
    if remembered:
        axes["retrieval"].set_title("Retrieval top-1: 0 where the best-scoring memory is never the right one")
        axes["retrieval"].set_ylabel("share of positions")
        axes["retrieval"].set_ylim(bottom=min(0.0, axes["retrieval"].get_ylim()[0]))
    axes["loss"].set_xlabel("gradient steps")
    for ax in axes.values():
        for step in np.unique(sets["begins"][sets["begins"] > 0]):
            ax.axvline(step, color="black", lw=0.7, ls=(0, (1, 2)))
    _legend(figure, axes["accuracy"], len(indices))
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
    for ax, chosen in zip(axes, ({run: 0 for run in runs}, last), strict=False):
        for colour, run in zip(hues(len(runs)), runs, strict=True):
            if ax is not axes[0] and chosen[run] == 0:
                continue
            rows = (table["run"] == run) & (table["set"] == chosen[run]) & table["trained"]
            band(ax, table["since_switch"][rows], table, "accuracy", rows, colour, run)
        shown = {name: column[sets["run"] == runs[0]] for name, column in sets.items()}
        bounds(ax, shown, "accuracy")
        ax.set_xlabel("gradient steps since the set's training began")
    axes[0].set_title("First set: floor is a coin")
    axes[0].set_ylabel("share of bits predicted")
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
    indices = np.unique(positions["set"]).tolist()
    for colour, index in zip(hues(len(indices)), indices, strict=True):
        rows = positions["set"] == index
        band(ax, positions["position"][rows], positions, "accuracy", rows, colour, set_name(index))
    first = positions["set"] == indices[0]
    if np.isfinite(positions["ceiling"][first]).any():
        label = "ceiling: knows the set and its law"
        ax.plot(positions["position"][first], positions["ceiling"][first], color="black", lw=1, ls=CEILING, label=label)
    ax.axhline(float(np.nanmean(sets["floor_accuracy"])), color="black", lw=1, ls=FLOOR, label="floor: a coin")
    ax.set_title("Accuracy of each bit, at the end of its set's training: floor is a coin")
    ax.set_xlabel("bits of the sequence already seen")
    ax.xaxis.set_major_locator(MaxNLocator(11, integer=True))
    ax.set_ylabel("share predicted")
    _legend(figure, ax, len(indices))
    return figure


def hues(count: int) -> list[str]:
    """So many colours that stay apart, or a sequence of them where there are too many for that."""
    if count <= len(HUES):
        return list(HUES[:count])
    return [_hex(colormaps["viridis"](0.92 * index / (count - 1))) for index in range(count)]


def set_name(index: int) -> str:
    """What a set is called in figures."""
    return "set 0, from the start" if index == 0 else f"set {index}, after switch {index}"


def band(
    ax: Axes, x: NDArray[np.float64], table: Table, name: str, rows: NDArray[np.bool_], colour: str, label: str
) -> None:
    """A mean over members with its interval as a band; nothing where no value is finite."""
    middle, low, high = (table[f"{name}{end}"][rows] for end in ("", "_low", "_high"))
    if not np.isfinite(middle).any():
        return
    ax.fill_between(x, low, high, color=colour, alpha=0.2, lw=0)
    line = "o-" if len(x) <= 40 else "-"
    ax.plot(x, middle, line, color=colour, ms=3, lw=1.3, label=label, markevery=marker_spacing(x))


def bounds(ax: Axes, sets: Table, name: str) -> None:
    """Ceiling and floor as horizontal lines, mean over the sets."""
    for bound, style, label in (
        ("ceiling", CEILING, "ceiling: knows the set and its law"),
        ("floor", FLOOR, "floor: a coin"),
    ):
        values = sets[f"{bound}_{name}"]
        if np.isfinite(values).any():
            ax.axhline(float(np.nanmean(values)), color="black", lw=1, ls=style, label=label)


def _legend(figure: Figure, ax: Axes, lines: int) -> None:
    handles, labels = ax.get_legend_handles_labels()
    if lines > LABELLED:
        kept = [*range(0, lines, -(-lines // LABELLED)), *range(lines, len(labels))]
        handles, labels = [handles[i] for i in kept], [labels[i] for i in kept]
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8)


def _hex(colour: Sequence[float]) -> str:
    return "#" + "".join(f"{round(255 * part):02x}" for part in colour[:3])
