"""Charts of fine-tuning from its tables. No torch."""

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from memlight.display.figures import BLUE, GREY, ORANGE, PURPLE, STYLE, name_bars, outer_bars
from memlight.storage.tables import Table

COLOURS = {"head": "black", "named": BLUE, "delta": BLUE, "layermem": ORANGE, "contrast": PURPLE, "random": GREY}
"""Colour by how the layers of an arm were chosen."""

_WORDS = {"named": "named layers", "layermem": "LayerMem", "random": "random layers"}


@rc_context(STYLE)
def finetune_chart(effects: Table, table: Table) -> Figure:
    """Gain of every arm with its interval, and accuracy of every trial against the number of trained parameters.

    Args:
        effects: columns ``FINETUNE_EFFECTS``; the first row is the linear classifier alone.
        table: columns ``FINETUNE_TABLE``.
    """
    arms = len(effects["arm"])
    figure = Figure(figsize=(9.6, 1.5 + max(2.6, 0.34 * arms)), dpi=160, layout="constrained")
    gains, costs = figure.subplots(1, 2, width_ratios=[1.15, 1])
    _gains(gains, effects, table)
    _costs(costs, effects, table)
    name_bars(costs, effects, "gain")
    figure.legend(*costs.get_legend_handles_labels(), fontsize=8, ncols=4, loc="outside lower right")
    return figure


def _gains(ax: Axes, effects: Table, table: Table) -> None:
    rows = np.flatnonzero(effects["rank_by"] != "head")
    ax.axvline(0, color="black", lw=0.8)
    for y, row in enumerate(rows.tolist()):
        colour = COLOURS[effects["rank_by"][row]]
        low, middle, high = (100 * effects[f"gain{end}"][row] for end in ("_low", "", "_high"))
        trials = 100 * table["gain"][table["arm"] == effects["arm"][row]]
        ax.plot(trials, np.full(len(trials), y), "|", color=colour, ms=9, alpha=0.6)
        outer_bars(ax, y, effects, "gain", row, colour, along="x")
        if np.isfinite(low):
            ax.plot([low, high], [y, y], color=colour, lw=1.8)
        ax.plot(middle, y, "o", color=colour)
    ax.set_yticks(range(len(rows)), [_label(effects, row) for row in rows.tolist()], fontsize=8)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.grid(visible=False, axis="y")
    ax.grid(visible=True, axis="x")
    ax.set_title("Gain: 0 if the layers add nothing")
    ax.set_xlabel("top-1 minus that of a linear classifier alone,\npoints (mean, intervals, each trial)")


def _label(effects: Table, row: int) -> str:
    """The arm, and the layers that it names or ranks first where they fit."""
    arm, layers = str(effects["arm"][row]), str(effects["layers"][row])
    if effects["rank_by"][row] in ("named", "random"):
        return _shortened(arm)
    return f"{arm}: {_shortened(layers)}"


def _shortened(text: str) -> str:
    return text if len(text) <= 34 else f"{text[:16]}…{text[-17:]}"


def _costs(ax: Axes, effects: Table, table: Table) -> None:
    head = 100 * effects["top1"][effects["rank_by"] == "head"]
    ax.axhline(float(head[0]), color="black", lw=0.8, label="linear classifier alone")
    for rank_by in dict.fromkeys(table["rank_by"].tolist()):
        if rank_by == "head":
            continue
        of = table["rank_by"] == rank_by
        x, y = table["trained_parameters"][of], 100 * table["top1"][of]
        ax.plot(x, y, "o", color=COLOURS[rank_by], alpha=0.75, lw=0, label=_WORDS.get(rank_by, rank_by))
    ax.set_xscale("log")
    trained = table["trained_parameters"][table["rank_by"] != "head"]
    ax.set_xlim(trained.min() / 1.4, trained.max() * 1.4)
    ax.xaxis.set_major_locator(LogLocator(subs=(1,) if trained.max() > 30 * trained.min() else (1, 2, 5)))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _count(value)))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.grid(visible=True, axis="both")
    ax.set_title("Accuracy against trained parameters")
    ax.set_xlabel("trained parameters, each trial")
    ax.set_ylabel("top-1 on test images, %")


def _count(value: float) -> str:
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:g}{letter}"
    return f"{value:g}"
