"""Scores of others beside what is measured here: chart from a table. No torch."""

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.figure import Figure
from numpy.typing import NDArray

from memlight.display.figures import BLUE, GREY, ORANGE, STYLE, layer_ticks, marker_spacing, value_and_error
from memlight.display.pictures import drawable
from memlight.storage.tables import Table

TENTHS = 10
FEWEST_OF_TENTHS = 100
"""Images of which the means of tenths are drawn."""


@rc_context(STYLE)
def joined_by_layer(
    table: Table, last_N: NDArray[np.float64], joined_N: NDArray[np.float64], what: str, name: str
) -> Figure:
    """Rank correlations by layer, and every image in the last one.

    Args:
        table: columns ``JOINED``.
        last_N: ``(N,)`` what was measured, in the last layer.
        joined_N: ``(N,)`` the first score of others; images where it is NaN are left out.
        what: what was measured.
        name: of the first score of others.
    """
    figure = Figure(figsize=(9.6, 3.9), dpi=160, layout="constrained")
    axes = figure.subplot_mosaic("AB")
    names = list(dict.fromkeys(table["score"].tolist()))
    colours = [BLUE, ORANGE, *(colormaps["viridis"](place / max(1, len(names))) for place in range(len(names)))]
    layers = table["layer"][table["score"] == names[0]]
    x = np.arange(len(layers))
    every = marker_spacing(x)
    for number, (score, colour) in enumerate(zip(names, colours, strict=False)):
        rows = table["score"] == score
        value, error = value_and_error(table, "spearman", rows)
        at = x + 0.12 * (number - (len(names) - 1) / 2)
        axes["A"].plot(at, value, color=colour)
        axes["A"].errorbar(
            at, value, error, fmt="o", color=colour, capsize=2.5, elinewidth=1, label=drawable(score),
            errorevery=every, markevery=every,
        )  # fmt: skip
    if np.isfinite(control := table["control"][table["score"] == names[0]]).any():
        axes["A"].plot(x, control, "^--", color=GREY, lw=1, label="control images", markevery=every)
    axes["A"].axhline(0, color="black", lw=0.8)
    axes["A"].set(title="Rank correlation: 0 if they have nothing in common", ylabel="Spearman's rho")
    axes["A"].legend(fontsize=8)
    layer_ticks(axes["A"], layers)
    there = np.isfinite(joined_N) & np.isfinite(last_N)
    of_others, ours = joined_N[there], last_N[there]
    axes["B"].plot(of_others, ours, ".", color=BLUE, alpha=max(0.08, min(0.6, 300 / max(1, len(ours)))), ms=3)
    order = np.argsort(of_others, kind="stable")
    if len(order) >= FEWEST_OF_TENTHS:
        parts = np.array_split(order, TENTHS)
        means = np.array([(of_others[part].mean(), ours[part].mean()) for part in parts])
        axes["B"].plot(means[:, 0], means[:, 1], "o-", color=ORANGE, label="mean of a tenth of the images")
        axes["B"].legend(fontsize=8)
    axes["B"].set(title=f"Every image, {layers[-1]}", xlabel=drawable(name), ylabel=what)
    return figure
