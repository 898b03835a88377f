"""Charts of a transformer by block. No torch, and no pyplot."""

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from memlight.display.figures import BLUE, GREEN, GREY, ORANGE, STYLE
from memlight.storage.tables import Table

LINES = {
    "attention": ("attention output", BLUE, "o-"),
    "mlp": ("MLP output", ORANGE, "s-"),
    "hidden": ("MLP hidden layer", GREEN, "^:"),
    "residual_attention": ("residual after attention", GREY, "v:"),
    "residual_mlp": ("residual after MLP", "black", ".--"),
}


@rc_context(STYLE)
def layermem_by_block(blocks: Table) -> Figure:
    """The contrast of every part of every block with its interval; published LayerMem and its step beside it.

    Args:
        blocks: columns ``LAYERMEM_BLOCKS``.
    """
    figure = Figure(figsize=(9.6, 5.0), dpi=160, layout="constrained")
    axes = figure.subplot_mosaic("AB;AC", width_ratios=[1.15, 1])
    contrast, published, delta = axes["A"], axes["B"], axes["C"]
    for part, (label, colour, line) in LINES.items():
        rows = blocks["part"] == part
        block = blocks["block"][rows]
        if not rows.any():
            continue
        contrast.plot(block, blocks["contrast"][rows], line, color=colour, label=label)
        if part in ("attention", "mlp"):
            low, high = blocks["contrast_low"][rows], blocks["contrast_high"][rows]
            contrast.fill_between(block, low, high, color=colour, alpha=0.18, lw=0)
            published.plot(block, blocks["layermem"][rows], line, color=colour, label=label)
            shift = -0.2 if part == "attention" else 0.2
            delta.bar(block + shift, blocks["delta"][rows], width=0.38, color=colour)
    contrast.set_title("Contrast: 0 where nothing is memorised")
    contrast.set_ylabel("(candidate minus independent) / 2, of mean SSLMem'")
    contrast.legend(fontsize=8)
    published.set_title("Published score")
    published.set_ylabel("LayerMem")
    delta.set_title("Published step")
    delta.set_ylabel("delta: LayerMem minus that of\nthe stream it reads")
    for ax in axes.values():
        ax.axhline(0, color="black", lw=0.8)
        ax.set_xlim(0.3, np.max(blocks["block"]) + 0.7)
        ax.xaxis.set_major_locator(MaxNLocator(12, integer=True))
    contrast.set_xlabel("block")
    delta.set_xlabel("block")
    return figure
