"""Charts from tables. No torch, and no pyplot: a figure is an object that nobody else can draw into."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from memlight.storage.tables import Table

Item = TypeVar("Item")

BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#AA4499", "#767676"
"""Hues that stay apart for colour-blind readers (Okabe & Ito 2008; Tol 2021)."""

MEMBER_COLOURS = {"candidate": BLUE, "independent": ORANGE, "all": GREEN}

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

TRAINING_PANELS = {
    "loss": "loss",
    "embedding_std": "spread of embeddings\n(1 = isotropic, 0 = collapsed)",
    "lr": "learning rate",
    "top1": "kNN accuracy (fraction)",
}


@rc_context(STYLE)
def layermem_by_depth(table: Table, intervals: Table | None = None) -> Figure:
    """The contrast with its interval, the published score beside its controls, and the published delta.

    Args:
        table: columns ``LAYERMEM_TABLE``, one row per layer in execution order.
        intervals: columns ``LAYERMEM_INTERVALS``, drawn as bands around the published score and its controls.
    """
    figure = Figure(figsize=(9.6, 5.0), dpi=160, layout="constrained")
    axes = figure.subplot_mosaic("AB;AC", width_ratios=[1.15, 1])
    x = np.arange(len(table["layer"]))

    contrast, published, delta = axes["A"], axes["B"], axes["C"]
    _interval(contrast, x, table, "contrast", BLUE)
    contrast.set_title("Contrast: 0 where nothing is memorised")
    contrast.set_ylabel("(candidate minus independent) / 2, of mean SSLMem'")

    every = marker_spacing(x)
    published.plot(x, table["layermem"], "o-", color=BLUE, label="candidates (LayerMem)", markevery=every)
    controls = {"independent": (ORANGE, "s--"), "external": (GREEN, "^:"), "shared": (GREY, "v:")}
    for name, (colour, line) in controls.items():
        scores_of_control = table[f"control_{name}"]
        if np.isfinite(scores_of_control).any():
            published.plot(x, scores_of_control, line, color=colour, label=f"{name} (control)", lw=1.2, markevery=every)
    if intervals is not None:
        colours = {"layermem": BLUE, **{f"control_{name}": colour for name, (colour, _) in controls.items()}}
        for name, colour in colours.items():
            low, high = intervals[f"{name}_low"], intervals[f"{name}_high"]
            published.fill_between(x, low, high, color=colour, alpha=0.18, lw=0)
    published.set_title("Published score beside its controls")
    published.set_ylabel("mean SSLMem'")
    published.legend(fontsize=7.5)

    delta.bar(x, table["delta"], color=np.where(np.nan_to_num(table["delta"]) < 0, ORANGE, BLUE), width=0.7)
    delta.set_title("Published step")
    delta.set_ylabel("delta: LayerMem minus that\nof what feeds the layer")
    for ax in axes.values():
        ax.axhline(0, color="black", lw=0.8)
        layer_ticks(ax, table["layer"])
    return figure


@rc_context(STYLE)
def unitmem_by_layer(layers: Table) -> Figure:
    """UnitMem by layer beside what noise and held-out images score; for a pair also its two contrasts.

    Args:
        layers: columns ``UNITMEM_LAYERS``, one row per layer in execution order.
    """
    pair = "unit_contrast" in layers
    figure = Figure(figsize=(9.6, 4.6), dpi=160, layout="constrained")
    axes = figure.subplot_mosaic("AB;AC" if pair else "A")
    x = np.arange(len(layers["layer"]))

    scores = axes["A"]
    every = marker_spacing(x)
    scores.plot(x, layers["max"], ".", color=BLUE, alpha=0.6, label="highest unit")
    scores.plot(x, layers["p95"], "-", color=BLUE, lw=0.9, label="95th percentile of units")
    scores.plot(x, layers["mean"], "o-", color=BLUE, label="mean over units", markevery=every)
    if np.isfinite(layers["held_out_mean"]).any():
        scores.plot(x, layers["held_out_mean"], "^--", color=GREEN, label="mean, held-out images", markevery=every)
    scores.plot(x, layers["null_mean"], ":", color=GREY, label="expected of exchangeable images")
    scores.fill_between(
        x, layers["null_mean"], layers["null_p95"], color=GREY, alpha=0.18, lw=0, label="up to their 95th percentile"
    )
    scores.set_title("UnitMem beside its controls")
    scores.set_ylabel("UnitMem")
    scores.set_ylim(0, 1.02)
    scores.legend(fontsize=8, loc="best")
    if pair:
        _interval(axes["B"], x, layers, "unit_contrast", BLUE)
        axes["B"].axhline(0, color="black", lw=0.8)
        axes["B"].set_title("Unit contrast: 0 if nothing is memorised")
        axes["B"].set_ylabel("unit contrast")
        renamed = {
            "own": layers["own_max_share"],
            "own_low": layers["own_max_low"],
            "own_high": layers["own_max_high"],
        }
        _interval(axes["C"], x, renamed, "own", PURPLE)
        axes["C"].axhline(0.5, color="black", lw=0.8)
        axes["C"].set_title("Own-max share: 0.5 if nothing is memorised")
        axes["C"].set_ylabel("share of units")
    for ax in axes.values():
        layer_ticks(ax, layers["layer"])
    return figure


@rc_context(STYLE)
def unitmem_histogram(table: Table, layers: Sequence[str] | None = None) -> Figure:
    """Histograms of UnitMem, one small panel per layer, dead units left out.

    Args:
        table: columns ``UNITMEM_TABLE``.
        layers: which layers; at most `MOST_PANELS`, spread over the depth, when None.
    """
    names = list(dict.fromkeys(table["layer"].tolist())) if layers is None else list(layers)
    if layers is None:
        names = spread_over(names, MOST_PANELS)
    columns = min(4, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(2.4 * columns, 0.7 + 1.5 * rows), dpi=160, layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, squeeze=False)
    bins = np.linspace(0, 1, 41)
    for ax, name in zip(grid.flat, names, strict=False):
        rows_of_layer = table["layer"] == name
        alive = table["unitmem"][rows_of_layer & ~table["dead"]]
        dead = int((rows_of_layer & table["dead"]).sum())
        ax.hist(alive, bins, color=BLUE)
        ax.set_title(name, fontsize=9)
        note = f"{len(alive)} units" + (f"\n{dead} dead" if dead else "")
        if len(alive):
            ax.axvline(alive.mean(), color=ORANGE, lw=1.3)
            note += f"\nmean {alive.mean():.3f}"
        right = not len(alive) or alive.mean() < 0.5
        ax.text(0.98 if right else 0.03, 0.95, note, transform=ax.transAxes, va="top", fontsize=7.5,
                ha="right" if right else "left", color="#444444", bbox=NOTE_BOX)  # fmt: skip
        ax.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    for ax in list(grid.flat)[len(names) :]:
        ax.remove()
    figure.supxlabel("UnitMem", fontsize=9.5)
    figure.supylabel("number of units", fontsize=9.5)
    return figure


@rc_context(STYLE)
def training_curves(metrics: Mapping[str, Table]) -> Figure:
    """Loss, spread of embeddings, learning rate and kNN accuracy while the members were trained.

    Args:
        metrics: each member's ``metrics.csv``, at least one epoch long; what was not logged is left out.
    """
    panels = [name for name in TRAINING_PANELS if any(_keys_of(table, name) for table in metrics.values())]
    figure = Figure(figsize=(9.6, 3.1), dpi=160, layout="constrained")
    axes = figure.subplots(1, max(len(panels), 1), squeeze=False)[0]
    for ax, panel in zip(axes, panels, strict=False):
        for member, table in metrics.items():
            epochs = _epochs_trained(table)
            for key in _keys_of(table, panel):
                held_out = key.startswith("val/")
                logged = np.isfinite(table[key])
                ax.plot(
                    epochs[logged],
                    table[key][logged],
                    "--" if held_out else "-",
                    color=MEMBER_COLOURS.get(member, GREY),
                    lw=1.2,
                    label=f"{member}, external" if held_out else member,
                )
        ax.set_xlabel("epochs trained")
        ax.set_ylabel(TRAINING_PANELS[panel])
    if panels:
        axes[0].legend(fontsize=8)
    return figure


def _keys_of(table: Table, panel: str) -> list[str]:
    if panel == "lr":
        return [key for key in table if key.startswith("lr-")]
    return [key for key in table if key.endswith(f"/{panel}")]


def _epochs_trained(table: Table) -> NDArray[np.float64]:
    """Every row's step in epochs; most rows are logged between two epochs and name none."""
    named = np.flatnonzero(np.isfinite(table["epoch"]))[-1]
    steps_per_epoch = (table["step"][named] + 1) / (table["epoch"][named] + 1)
    epochs: NDArray[np.float64] = (table["step"] + 1) / steps_per_epoch
    return epochs


def _interval(ax: Axes, x: NDArray[Any], table: Table, name: str, colour: str) -> None:
    """A line through ``name`` with its interval as bars, and as a band."""
    middle, low, high = table[name], table[f"{name}_low"], table[f"{name}_high"]
    ax.fill_between(x, low, high, color=colour, alpha=0.2, lw=0)
    every = marker_spacing(x)
    error = (middle - low, high - middle)
    ax.plot(x, middle, color=colour)
    ax.errorbar(x, middle, error, fmt="o", color=colour, capsize=2.5, elinewidth=1, errorevery=every, markevery=every)


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
