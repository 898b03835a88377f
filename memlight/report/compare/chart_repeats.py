"""Charts of repetitions of one experiment: by layer, every run and the mean over runs. No torch."""

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from memlight.display.figures import BLUE, GREY, STYLE, layer_ticks, marker_spacing
from memlight.storage.tables import Table

PANELS = {
    "contrast": ("Contrast: 0 if nothing is memorised", 0.0),
    "unit_contrast": ("Unit contrast: 0 if nothing is memorised", 0.0),
    "own_max_share": ("Own-max share: 0.5 if nothing is memorised", 0.5),
    "layermem": ("Published LayerMem: 0 means nothing by itself", 0.0),
    "unitmem": ("Mean UnitMem; dotted: of exchangeable images", None),
    "classmem": ("Mean ClassMem", None),
}
"""Number -> title and the value to hold it against."""


@rc_context(STYLE)
def repeats_by_depth(means: Table, runs: Table) -> Figure:
    """A panel per number: every run as a thin line, the mean over runs with its 95 % interval by Student's t.

    Args:
        means: columns ``REPEATS_LAYERS``.
        runs: columns ``COMPARE_LAYERS``, of the same runs.
    """
    names = [name for name in PANELS if (means["number"] == name).any()]
    columns = min(2, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(9.6, 0.5 + 2.9 * rows), dpi=160, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    layers = dict(zip(means["layer"].tolist(), means["depth"].tolist(), strict=True))
    ordered = np.array(sorted(layers, key=layers.__getitem__))
    for ax, name in zip(grid.flat, names, strict=False):
        title, zero = PANELS[name]
        _runs(ax, runs, name, layers)
        _mean(ax, means, name)
        if name == "unitmem":
            null = means["number"] == "null"
            ax.plot(means["depth"][null], means["mean"][null], ":", color=GREY)
        if zero is not None:
            ax.axhline(zero, color="black", lw=0.8)
        ax.set_title(title, fontsize=9.5)
        layer_ticks(ax, ordered, most=10)
    for ax in list(grid.flat)[len(names) :]:
        ax.remove()
    return figure


def _runs(ax: Axes, runs: Table, name: str, layers: dict[str, int]) -> None:
    for run in dict.fromkeys(runs["run"].tolist()):
        rows = (runs["run"] == run) & np.isfinite(runs[name])
        x = [layers[layer] for layer in runs["layer"][rows].tolist()]
        ax.plot(x, runs[name][rows], "-", color=GREY, lw=0.8, alpha=0.8)


def _mean(ax: Axes, means: Table, name: str) -> None:
    rows = means["number"] == name
    x, middle = means["depth"][rows], means["mean"][rows]
    error = np.nan_to_num(np.stack([middle - means["mean_low"][rows], means["mean_high"][rows] - middle]))
    every = marker_spacing(x)
    ax.plot(x, middle, color=BLUE)
    ax.errorbar(x, middle, error, fmt="o", color=BLUE, capsize=2.5, elinewidth=1, errorevery=every, markevery=every)
