"""Charts from tables. No torch, and no pyplot: a figure is an object that nobody else can draw into."""

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray

from memlight.storage.tables import Table

Item = TypeVar("Item")

BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#AA4499", "#767676"
"""Hues that stay apart for colour-blind readers (Okabe & Ito 2008; Tol 2021)."""


STYLE: dict[Any, Any] = {
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
}

MOST_PANELS = 12
"""Small panels in one figure."""

LONGEST_TICK = 22
"""Letters of a layer's name along an axis; of longer ones the end is shown."""

NOTE_BOX = {"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 1}


POINTWISE, SIMULTANEOUS = "each by itself (pointwise 95 %)", "all at once (simultaneous 95 %)"
"""What a legend calls the inner and the outer interval of numbers that are one family."""


def _interval(ax: Axes, x: NDArray[Any], table: Table, name: str, colour: str) -> None:
    """A line through ``name``, its own interval as bars and band, and around it the band of all layers at once.

    The outer band is left out where the table has none, as one that was written before there were such bands.
    """
    middle, error = value_and_error(table, name)
    low, high = (table.get(f"{name}_simultaneous_{end}") for end in ("low", "high"))
    if low is not None and high is not None:
        ax.fill_between(x, low, high, color=colour, alpha=0.12, lw=0, label=SIMULTANEOUS)
    ax.fill_between(x, table[f"{name}_low"], table[f"{name}_high"], color=colour, alpha=0.2, lw=0)
    every = marker_spacing(x)
    ax.plot(x, middle, color=colour)
    bars: dict[str, Any] = {"fmt": "o", "color": colour, "capsize": 2.5, "elinewidth": 1, "label": POINTWISE}
    ax.errorbar(x, middle, error, **bars, errorevery=every, markevery=every)


def outer_bars(
    ax: Axes, at: ArrayLike, table: Table, name: str, rows: Any, colour: str, *, scale: float = 100, along: str = "y"
) -> None:
    """Thin lines as far as the bands reach that hold a whole family at once; nothing where the table has none.

    Args:
        ax: where.
        at: ``(n,)`` places on the other axis.
        table: with columns ``<name>_simultaneous_low`` and ``_high``.
        name: of the number.
        rows: which rows, as an index of NumPy.
        colour: of the lines.
        scale: what all are multiplied by, such as 100 for per cent.
        along: the axis that the numbers are on, y or x.
    """
    if f"{name}_simultaneous_low" not in table:
        return
    low, high = (scale * np.atleast_1d(table[f"{name}_simultaneous_{end}"][rows]) for end in ("low", "high"))
    made = np.isfinite(low)
    draw = ax.vlines if along == "y" else ax.hlines
    draw(np.atleast_1d(at)[made], low[made], high[made], color=colour, lw=0.7)


def name_bars(ax: Axes, table: Table, name: str) -> None:
    """Put what bars and `outer_bars` are into an axis's legend; nothing where the table has no bands."""
    if f"{name}_simultaneous_low" in table:
        ax.plot([], [], "-", color="black", lw=1.6, label=POINTWISE)
        ax.plot([], [], "-", color="black", lw=0.7, label=SIMULTANEOUS)


def value_and_error(
    table: Table, name: str, rows: Any = slice(None), scale: float = 1
) -> tuple[NDArray[Any], NDArray[Any]]:
    """A number of a table and how far its interval reaches below and above it, as `Axes.errorbar` takes them.

    Args:
        table: with columns ``<name>``, ``<name>_low`` and ``<name>_high``.
        name: of the number.
        rows: which rows, as an index of NumPy; all by default.
        scale: what all are multiplied by, such as 100 for per cent.

    Returns:
        ``(n,)`` the number, and ``(2, n)`` the lengths of its bar.
    """
    value, low, high = (scale * np.atleast_1d(table[f"{name}{end}"][rows]) for end in ("", "_low", "_high"))
    return value, np.stack([value - low, high - value])


def spread_over(items: Sequence[Item], most: int) -> list[Item]:
    """At most so many, evenly spaced from the first to the last."""
    return [items[i] for i in np.linspace(0, len(items) - 1, min(most, len(items))).round().astype(int)]


def marker_spacing(x: NDArray[Any]) -> int:
    """Draw every n-th marker, so that a deep network's markers do not merge into a bar."""
    return -(-len(x) // 24)


def layer_ticks(ax: Axes, layers: NDArray[Any], *, axis: str = "x", most: int = 14) -> None:
    """Name the layers along an axis, leaving names out where they would run into one another."""
    step = -(-len(layers) // most)
    ticks = np.arange(0, len(layers), step)
    names = [name if len(name) <= LONGEST_TICK else f"…{name[1 - LONGEST_TICK :]}" for name in layers[ticks].tolist()]
    if axis == "y":
        ax.set_yticks(ticks, names, fontsize=8)
        return
    ax.set_xlim(-0.6, len(layers) - 0.4)
    if max(len(name) for name in layers) > 3 and len(ticks) > 4:
        ax.set_xticks(ticks, names, rotation=40, ha="right", rotation_mode="anchor", fontsize=8)
    else:
        ax.set_xticks(ticks, names)
