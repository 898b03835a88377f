"""What is left of earlier sets and how much faster later ones are learned: charts from their tables. No torch."""

from typing import Any

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from memlight.analyses.sequence.chart import FLOOR, hues
from memlight.display.figures import BLUE, LONGEST_TICK, ORANGE, STYLE
from memlight.storage.tables import Table

MOST_WRITTEN = 8
"""Sets up to which a matrix has its numbers written in."""

ERROR: dict[str, Any] = {"capsize": 3, "elinewidth": 1.1}


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
        shift = 0.5 * (place - (len(runs) - 1) / 2) / max(1, len(runs))
        _points(steps, savings["set"][rows] + shift, savings, "steps", rows, colour, run)
        final = rows & (savings["set"] == savings["set"][rows].max())
        _points(last, np.array([place]), savings, "savings", final, colour, run)
    steps.set_title(f"Steps to {100 * share:g} % of the way to the ceiling")
    steps.set_ylabel("gradient steps")
    steps.set_xticks(np.unique(savings["set"]))
    steps.set_xlabel("set")
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
    panels = ("swaps" if len(swaps["run"]) else "", "probes" if len(probes["run"]) else "")
    named = [panel for panel in panels if panel]
    figure = Figure(figsize=(9.6, 4.0), dpi=160, layout="constrained")
    axes = dict(zip(named, figure.subplots(1, len(named), squeeze=False)[0], strict=True))
    if "swaps" in axes:
        _swaps(axes["swaps"], swaps)
    if "probes" in axes:
        every = np.ones(len(probes["step"]), dtype=bool)
        renamed = {"batches": probes["batches"], "batches_low": probes["low"], "batches_high": probes["high"]}
        _points(axes["probes"], probes["step"], renamed, "batches", every, BLUE, "members that got there")
        axes["probes"].set_title("Fork: batches to learn novel sequences")
        axes["probes"].set_ylabel("batches")
        columns = zip(probes["step"], probes["reached"], probes["members"], strict=True)
        names = [f"{step}\n{reached} of {members}" for step, reached, members in columns]
        axes["probes"].set_xticks(probes["step"], names, fontsize=8)
        axes["probes"].set_xlabel("gradient steps at the fork, and members that got there")
        axes["probes"].set_ylim(bottom=0)
    return figure


def _swaps(ax: Axes, swaps: Table) -> None:
    labels = [
        f"{name}\nstep {step}, set {index}"
        for name, step, index in zip(swaps["swapped"], swaps["step"], swaps["set"], strict=True)
    ]
    x = np.arange(len(labels))
    every = np.ones(len(labels), dtype=bool)
    _points(ax, x, swaps, "accuracy", every, BLUE, "swapped in")
    ax.plot(x + 0.12, swaps["before"], "D", color=ORANGE, ms=4, lw=0, label="as trained")
    ax.axhline(0.5, color="black", lw=1, ls=FLOOR, label="floor: a coin")
    ax.set_title("Parts of an earlier snapshot swapped in")
    ax.set_ylabel("share of bits predicted")
    ax.set_xticks(x, labels, fontsize=8, rotation=30, ha="right", rotation_mode="anchor")
    ax.set_xlim(-0.6, len(labels) - 0.4)
    ax.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))


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
    ax.errorbar(x[shown], middle[shown], error, fmt="o", color=colour, label=label, **ERROR)


def _matrix(ax: Axes, table: Table, name: str, scale: Normalize, label: str) -> None:
    sets = np.unique(np.concatenate([table["after"], table["set"]]))
    values = np.full((len(sets), len(sets)), np.nan)
    values[np.searchsorted(sets, table["after"]), np.searchsorted(sets, table["set"])] = table[name]
    palette = colormaps["viridis"].with_extremes(bad="#f2f2f2")
    ax.imshow(values, cmap=palette, norm=scale, interpolation="nearest")
    if len(sets) <= MOST_WRITTEN:
        ends = np.full((2, *values.shape), np.nan)
        for which, end in enumerate(("low", "high")):
            places = np.searchsorted(sets, table["after"]), np.searchsorted(sets, table["set"])
            ends[which][places] = table[f"{name}_{end}"]
        for (row, column), value in np.ndenumerate(values):
            if np.isfinite(value):
                red, green, blue, _ = palette(scale(value))
                dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.55
                half = (ends[1, row, column] - ends[0, row, column]) / 2
                text = f"{value:.2f}" + (f"\n±{half:.2f}" if np.isfinite(half) and len(sets) <= 5 else "")
                text = text.replace("-", "\N{MINUS SIGN}")
                ax.text(column, row, text, ha="center", va="center", fontsize=7.5, color="white" if dark else "black")
    step = -(-len(sets) // 12)
    ax.set_xticks(range(0, len(sets), step), [str(index) for index in sets[::step]])
    ax.set_yticks(range(0, len(sets), step), [str(index) for index in sets[::step]])
    ax.set_xlabel("accuracy on set")
    ax.set_ylabel("at the end of training on set")
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)
    ax.figure.colorbar(ScalarMappable(scale, palette), ax=ax, label=label, fraction=0.045, pad=0.02)
