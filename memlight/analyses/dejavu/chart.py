"""The chart of Deja Vu from its tables. No torch."""

from collections.abc import Mapping

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from memlight.display.figures import BLUE, GREEN, GREY, ORANGE, STYLE, _interval, layer_ticks, marker_spacing
from memlight.storage.tables import Table

PLACEBO_LINES = {"external": (GREEN, "^--"), "shared": (GREY, "v:")}

MEMBER_LINES = {
    "f_candidate": ("candidate member, candidates", BLUE, "o-"),
    "g_candidate": ("independent member, candidates", BLUE, "o:"),
    "g_independent": ("independent member, independent images", ORANGE, "s-"),
    "f_independent": ("candidate member, independent images", ORANGE, "s:"),
}
"""Solid where the member was trained on the images."""


@rc_context(STYLE)
def dejavu_by_depth(table: Table, placebos: Mapping[str, np.ndarray]) -> Figure:
    """The difference of differences with both bands beside its placebos, and mean reciprocal ranks.

    Args:
        table: columns ``DEJAVU_TABLE``.
        placebos: columns ``DEJAVU_PLACEBOS``; none without placebos.
    """
    figure = Figure(figsize=(9.6, 4.2), dpi=160, layout="constrained")
    difference, ranks = figure.subplots(1, 2)
    x = np.arange(len(table["layer"]))
    _interval(difference, x, table, "difference", BLUE)
    for name, (colour, line) in PLACEBO_LINES.items():
        rows = placebos["placebo"] == name if placebos else np.zeros(0, dtype=bool)
        if rows.any():
            label = f"halves of {name} images (placebo)"
            difference.plot(x, placebos["difference"][rows], line, color=colour, lw=1.2, label=label)
    difference.axhline(0, color="black", lw=0.8)
    difference.set(title="0 where nothing is memorised", ylabel="difference of mean reciprocal rank")
    _ranks(ranks, table)
    for ax in (difference, ranks):
        layer_ticks(ax, table["layer"])
        ax.legend(fontsize=7.5, loc="upper center", bbox_to_anchor=(0.5, -0.24), ncols=1)
    return figure


def _ranks(ax: Axes, table: Table) -> None:
    x = np.arange(len(table["layer"]))
    for name, (label, colour, line) in MEMBER_LINES.items():
        ax.plot(x, table[f"mrr_{name}"], line, color=colour, lw=1.3, label=label, markevery=marker_spacing(x))
    images = int(table["n"][0])
    ax.axhline((1 / np.arange(1, images + 1)).mean(), color="black", lw=0.8, ls=":", label="chance")
    ax.set(title="Solid: trained on the images", ylabel="mean reciprocal rank of the other corner")
    ax.set_ylim(0, None)
