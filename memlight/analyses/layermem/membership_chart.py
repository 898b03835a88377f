"""Chart of membership by depth, from its tables. No torch."""

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from memlight.display.figures import BLUE, GREEN, GREY, ORANGE, PURPLE, STYLE, _interval, layer_ticks, marker_spacing
from memlight.storage.tables import Table

LINES = {
    "auc_alone": ("alignment alone, no reference", GREEN, "^--"),
    "auc_norm": ("log norm, f minus g", PURPLE, "s:"),
    "auc_density": ("density, f minus g", "black", "d:"),
    "auc_probe": ("white-box probe", ORANGE, "v-."),
}

PLACEBO_LINES = {"shared": ("shared images, halved", "--"), "external": ("external images, halved", ":")}


@rc_context(STYLE)
def membership_by_depth(membership: Table, placebos: Table) -> Figure:
    """AUC of the pair's score with both bands and of the attack; beside it the other numbers and the placebos.

    Args:
        membership: columns ``MEMBERSHIP``.
        placebos: columns ``PLACEBOS``; may be empty.
    """
    figure = Figure(figsize=(10.4, 4.4), dpi=160, layout="constrained")
    pair, others = figure.subplots(1, 2, sharey=True)
    x = np.arange(len(membership["layer"]))
    every = marker_spacing(x)
    _interval(pair, x, membership, "auc_pair", BLUE)
    if np.isfinite(membership["auc_attack"]).any():
        attack = "attack with one reference"
        pair.plot(x, membership["auc_attack"], "s--", color=ORANGE, lw=1.2, label=attack, markevery=every)
    pair.set_title("Score of the pair: .5 where nothing is memorised")
    pair.set_ylabel("AUC: members against others")
    for name, (label, colour, line) in LINES.items():
        if np.isfinite(membership[name]).any():
            others.plot(x, membership[name], line, color=colour, lw=1.2, label=label, markevery=every)
    for split, (label, line) in PLACEBO_LINES.items():
        rows = placebos["placebo"] == split
        if rows.any():
            others.plot(x, placebos["auc"][rows], line, color=GREY, lw=1.6, label=f"placebo: {label}")
    others.set_title("Other numbers, and placebos")
    for ax in (pair, others):
        ax.axhline(0.5, color="black", lw=0.8)
        layer_ticks(ax, membership["layer"])
        ax.legend(fontsize=7.5)
    return figure
