"""Charts of LayerMem from its tables: by depth, by transformer block, agreement of rankings. No torch."""

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from memlight.analyses.layermem.design import HALF, PAIR, Design
from memlight.display.figures import BLUE, GREEN, GREY, ORANGE, STYLE, _interval, layer_ticks, marker_spacing
from memlight.storage.tables import Table

CONTROL_LINES = {"independent": (ORANGE, "s--"), "external": (GREEN, "^:"), "shared": (GREY, "v:")}

PART_LINES = {
    "attention": ("attention output", BLUE, "o-"),
    "mlp": ("MLP output", ORANGE, "s-"),
    "hidden": ("MLP hidden layer", GREEN, "^:"),
    "residual_attention": ("residual after attention", GREY, "v:"),
    "residual_mlp": ("residual after MLP", "black", ".--"),
}

MOST_WRITTEN = 12
"""Layers up to which a heat map has its numbers written in."""

SPLIT_LINES = {
    "candidate": (BLUE, "o-", "candidates"),
    "external": (GREEN, "^--", "external images, which no encoder saw (control)"),
}


@rc_context(STYLE)
def layermem_by_depth(table: Table, intervals: Table | None = None) -> Figure:
    """The contrast with its interval, the published score beside its controls, and the published delta.

    Args:
        table: columns ``LAYERMEM_TABLE``, one row per layer in execution order.
        intervals: columns ``LAYERMEM_INTERVALS``, drawn as bands around the published score and its controls.
    """
    half = np.isfinite(table["contrast"]).any() and not np.isfinite(table["control_independent"]).any()
    figure, contrast, published, delta = _panels(HALF if half else PAIR)
    x = np.arange(len(table["layer"]))
    _interval(contrast, x, table, "contrast", BLUE)
    contrast.legend(fontsize=7.5, loc="upper left")
    every = marker_spacing(x)
    published.plot(x, table["layermem"], "o-", color=BLUE, label="candidates (LayerMem)", markevery=every)
    for name, (colour, line) in CONTROL_LINES.items():
        scores = table[f"control_{name}"]
        if np.isfinite(scores).any():
            published.plot(x, scores, line, color=colour, label=f"{name} (control)", lw=1.2, markevery=every)
    if intervals is not None:
        colours = {"layermem": BLUE, **{f"control_{name}": colour for name, (colour, _) in CONTROL_LINES.items()}}
        for name, colour in colours.items():
            low, high = intervals[f"{name}_low"], intervals[f"{name}_high"]
            published.fill_between(x, low, high, color=colour, alpha=0.18, lw=0)
    published.set_title("Published score beside its controls")
    published.set_ylabel("mean SSLMem'")
    published.legend(fontsize=7.5)
    delta.bar(x, table["delta"], color=np.where(np.nan_to_num(table["delta"]) < 0, ORANGE, BLUE), width=0.7)
    delta.set_ylabel("delta: LayerMem minus that\nof what feeds the layer")
    for ax in (contrast, published, delta):
        ax.axhline(0, color="black", lw=0.8)
        layer_ticks(ax, table["layer"])
    return figure


@rc_context(STYLE)
def layermem_by_block(blocks: Table, design: Design = PAIR) -> Figure:
    """The contrast of every part of every block with its interval; published LayerMem and its step beside it.

    Args:
        blocks: columns ``LAYERMEM_BLOCKS``.
        design: of the contrast.
    """
    figure, contrast, published, delta = _panels(design)
    for part, (label, colour, line) in PART_LINES.items():
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
    contrast.legend(fontsize=8)
    published.set_title("Published score")
    published.set_ylabel("LayerMem")
    delta.set_ylabel("delta: LayerMem minus that of\nthe stream it reads")
    for ax in (contrast, published, delta):
        ax.axhline(0, color="black", lw=0.8)
        ax.set_xlim(0.3, np.max(blocks["block"]) + 0.7)
        ax.xaxis.set_major_locator(MaxNLocator(12, integer=True))
    contrast.set_xlabel("block")
    delta.set_xlabel("block")
    return figure


def _panels(design: Design) -> tuple[Figure, Axes, Axes, Axes]:
    """A figure with places for the contrast (large), the published score and its step."""
    figure = Figure(figsize=(9.6, 5.0), dpi=160, layout="constrained")
    axes = figure.subplot_mosaic("AB;AC", width_ratios=[1.15, 1])
    axes["A"].set_title("Contrast: 0 where nothing is memorised")
    axes["A"].set_ylabel(f"{design.formula}, of mean SSLMem'")
    axes["C"].set_title("Published step")
    return figure, axes["A"], axes["B"], axes["C"]


@rc_context(STYLE)
def agreement_between_layers(table: Table) -> Figure:
    """Two heat maps, tau and overlap of the tops: candidates below the diagonal, external images above it.

    Args:
        table: columns ``LAYERMEM_AGREEMENT``.
    """
    layers = list(dict.fromkeys([*table["layer_a"].tolist(), *table["layer_b"].tolist()]))
    figure = Figure(figsize=(10.4, 5.0), dpi=160, layout="constrained")
    tau, overlap = figure.subplots(1, 2)
    of_tau = _matrix(table, layers, table["tau"])
    _heat_map(tau, of_tau, layers, "RdBu_r", TwoSlopeNorm(0, -1, 1), "Kendall's tau", 2)
    tau.set_title("Agreement of layers: tau is 0 if unrelated")
    of_top = _matrix(table, layers, table["overlap"])
    top, chance = table["top"][0], table["chance"][0]
    _heat_map(overlap, of_top, layers, "viridis", Normalize(0, top), f"of the {top} highest scores, in both layers", 0)
    overlap.set_title(f"Overlap of the top {top}: {chance:.1f} if unrelated")
    below = "below the diagonal: candidates"
    above = "; above: external images" if (table["split"] == "external").any() else ""
    figure.supxlabel(below + above, fontsize=9)
    return figure


@rc_context(STYLE)
def agreement_between_runs(table: Table) -> Figure:
    """Tau and overlap of the tops by layer, mean over all pairs of runs, from the lowest to the highest of them.

    Args:
        table: columns ``REPEATS_AGREEMENT``. Of a single pair of runs the band is its interval over images.
    """
    layers = np.array(list(dict.fromkeys(table["layer"].tolist())))
    x = np.arange(len(layers))
    figure = Figure(figsize=(9.6, 4.0), dpi=160, layout="constrained")
    tau, overlap = figure.subplots(1, 2)
    share = {name: table[name] / table["top"] for name in ("overlap", "chance")}
    for split, (colour, line, label) in SPLIT_LINES.items():
        of_layer = [np.flatnonzero((table["split"] == split) & (table["layer"] == layer)) for layer in layers]
        if not all(map(len, of_layer)):
            continue
        several = max(map(len, of_layer)) > 1
        ends = ("tau", "tau") if several else ("tau_low", "tau_high")
        for ax, values, (low, high) in (
            (tau, table["tau"], (table[end] for end in ends)),
            (overlap, share["overlap"], (share["overlap"], share["overlap"])),
        ):
            bottom, height = [low[at].min() for at in of_layer], [high[at].max() for at in of_layer]
            middle = [values[at].mean() for at in of_layer]
            ax.fill_between(x, bottom, height, color=colour, alpha=0.15, lw=0)
            ax.plot(x, middle, line, color=colour, label=label, markevery=marker_spacing(x))
        overlap.axhline(share["chance"][of_layer[0][0]], color=colour, lw=1, ls=":")
    tau.axhline(0, color="black", lw=0.8)
    tau.set_title("Agreement of runs: tau is 0 if unrelated")
    tau.set_ylabel("Kendall's tau")
    sizes = " / ".join(str(top) for top in np.unique(table["top"]))
    overlap.set_title(f"Top {sizes} in common; dotted: if unrelated")
    overlap.set_ylabel("share of the top in both")
    overlap.set_ylim(bottom=0)
    for ax in (tau, overlap):
        layer_ticks(ax, layers, most=10)
    figure.legend(*tau.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8)
    return figure


def _matrix(table: Table, layers: list[str], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Candidates below the diagonal, external images above it, NaN where there is nothing."""
    place = {layer: index for index, layer in enumerate(layers)}
    matrix = np.full((len(layers), len(layers)), np.nan)
    earlier = np.array([place[layer] for layer in table["layer_a"].tolist()])
    later = np.array([place[layer] for layer in table["layer_b"].tolist()])
    candidate = table["split"] == "candidate"
    matrix[np.where(candidate, later, earlier), np.where(candidate, earlier, later)] = values
    return matrix


def _heat_map(
    ax: Axes, matrix: NDArray[np.float64], layers: list[str], colours: str, scale: Normalize, label: str, digits: int
) -> None:
    palette = colormaps[colours].with_extremes(bad="#f2f2f2")
    ax.imshow(matrix, cmap=palette, norm=scale, interpolation="nearest")
    layer_ticks(ax, np.array(layers))
    layer_ticks(ax, np.array(layers), axis="y")
    ax.set(xlim=(-0.5, len(layers) - 0.5), ylim=(len(layers) - 0.5, -0.5))
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)
    if len(layers) <= MOST_WRITTEN:
        for (row, column), value in np.ndenumerate(matrix):
            if np.isfinite(value):
                red, green, blue, _ = palette(scale(value))
                dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.55
                text = f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "\N{MINUS SIGN}")
                ax.text(column, row, text, ha="center", va="center", fontsize=7, color="white" if dark else "black")
    ax.figure.colorbar(ScalarMappable(scale, palette), ax=ax, label=label, fraction=0.045, pad=0.02)
