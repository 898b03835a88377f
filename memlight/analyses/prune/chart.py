"""What pruning costs: a chart from its tables. No torch."""

from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from memlight.display.figures import BLUE, GREEN, GREY, STYLE, name_bars, outer_bars
from memlight.storage.tables import Table

PLACES = {"top": -0.24, "random": 0.0, "low": 0.24}
"""Where a mode stands beside the middle of its ratio."""

COLOURS = {"top": BLUE, "random": GREY, "low": GREEN}
SCOPES = {"layer": "of every layer at once", "model": "of all units together"}
ERROR: dict[str, Any] = {"fmt": "o", "capsize": 3, "elinewidth": 1.6}


@rc_context(STYLE)
def accuracy_lost(table: Table, effects: Table) -> Figure:
    """Accuracy lost by every copy, and what pruning by score costs more than random; a column for each scope.

    Random draws are small points; beside them their mean with the interval where one more draw is expected. The other
    intervals are the table's, of each row by itself; thin lines are the band that holds all excesses at once.

    Args:
        table: columns ``PRUNE_TABLE``.
        effects: columns ``PRUNE_EFFECTS``.
    """
    scopes = [scope for scope in SCOPES if (table["scope"] == scope).any()]
    compared = bool(np.isfinite(effects["excess"].astype(float)).any())
    rows = 2 if compared else 1
    figure = Figure(figsize=(4.8 * max(len(scopes), 1.4), 3.2 * rows + 0.3), dpi=160, layout="constrained")
    grid = figure.subplots(rows, len(scopes), squeeze=False, sharey="row")
    for column, scope in enumerate(scopes):
        ratios = list(dict.fromkeys(table["ratio"][table["scope"] == scope].tolist()))
        for ax in grid[:, column]:
            ax.axhline(0, color="black", lw=0.8)
            ax.set_xticks(range(len(ratios)), [f"{100 * ratio:g} %" for ratio in ratios])
            ax.set_xlim(-0.5, len(ratios) - 0.5)
        for x, ratio in enumerate(ratios):
            _drops(grid[0, column], x, _of(table, scope, ratio), _of(effects, scope, ratio))
            if compared:
                _excess(grid[1, column], x, _of(effects, scope, ratio))
        grid[0, column].set_title(f"Share {SCOPES[scope]}: 0 is unpruned")
        if compared:
            grid[1, column].set_title("Against random: 0 costs the same")
        grid[-1, column].set_xlabel(f"units pruned, {SCOPES[scope]}")
    grid[0, 0].set_ylabel("accuracy lost (points)")
    if compared:
        grid[1, 0].set_ylabel("lost more than random (points)")
        name_bars(grid[0, 0], effects, "excess")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    figure.legend(unique.values(), unique.keys(), fontsize=8, loc="outside lower center", ncols=-(-len(unique) // 2))
    return figure


def _drops(ax: Axes, x: float, copies: Table, effects: Table) -> None:
    draws = 100 * copies["drop"][copies["mode"] == "random"]
    middle = x + PLACES["random"]
    if len(draws):
        left = middle + np.linspace(-0.1, -0.02, len(draws))
        ax.plot(left, draws, ".", color=GREY, ms=4, alpha=0.7, label="random draws")
    if len(draws) and len(effects["random"]) and np.isfinite(effects["random_low"][0]):
        mean, low, high = (100 * effects[name][0] for name in ("random", "random_low", "random_high"))
        error = ([mean - low], [high - mean])
        ax.errorbar(middle + 0.05, mean, error, color="black", **ERROR, label="their mean; where one more would be")
    for mode in ("top", "low"):
        for row in np.flatnonzero(effects["mode"] == mode):
            value, low, high = (100 * effects[name][row] for name in ("drop", "drop_low", "drop_high"))
            error = ([value - low], [high - value])
            name = "highest UnitMem" if mode == "top" else "lowest UnitMem"
            ax.errorbar(x + PLACES[mode], value, error, color=COLOURS[mode], **ERROR, label=name)


def _excess(ax: Axes, x: float, effects: Table) -> None:
    for row, mode in enumerate(effects["mode"].tolist()):
        outer_bars(ax, x + PLACES[mode], effects, "excess", row, COLOURS[mode])
    for row, mode in enumerate(effects["mode"].tolist()):
        value, low, high = (100 * effects[name][row] for name in ("excess", "excess_low", "excess_high"))
        if np.isfinite(value):
            error = None if not np.isfinite(low) else ([value - low], [high - value])
            ax.errorbar(x + PLACES[mode], value, error, color=COLOURS[mode], **ERROR)


def _of(table: Table, scope: str, ratio: float) -> Table:
    rows = (table["scope"] == scope) & (table["ratio"] == ratio)
    return {name: column[rows] for name, column in table.items()}
