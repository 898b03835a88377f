"""UnitMem by layer, beside its null, with its reliability, and all units at a glance: charts from tables. No torch."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from memlight.display.figures import (
    BLUE,
    GREEN,
    GREY,
    MOST_PANELS,
    NOTE_BOX,
    ORANGE,
    PURPLE,
    STYLE,
    _interval,
    layer_ticks,
    marker_spacing,
    spread_over,
)
from memlight.storage.tables import Table

CURVES = 6
"""Layers whose growth with the number of images is drawn, or that a legend names; spread over the depth."""

NAMES = {"scored": "images scored", "null": "exchangeable images (null)", "held_out": "held-out images"}
STYLES = {"scored": (BLUE, "o-"), "null": (GREY, "s:"), "held_out": (GREEN, "^--")}

WIDTH = 1200
"""Columns into which a layer's units are sampled: more than a panel has pixels."""

ROWS_NAMED = 36
"""Layers of which a map says how many units they have."""

Scores = Mapping[str, NDArray[np.float64]]
"""``scored``, ``null`` and ``held_out`` of every unit, NaN for dead ones, as far as there are any; one at least."""


def unitmem_figures(tables: Mapping[str, Table], scores: Scores) -> Iterator[tuple[str, Figure, str]]:
    """Name, figure and caption of every chart of a study, in the order of the report.

    Args:
        tables: of `memlight.analyses.unitmem.tables.unitmem_tables`, by their names.
        scores: of every unit; none where all of them are dead.
    """
    table, layers = tables["table"], tables["table"]["layer"]
    caption = "UnitMem by layer beside its null and held-out images"
    if "unit_contrast" in tables["layers"]:
        caption += "; unit contrast and own-max share with the band that holds all layers at once (outer) and the "
        caption += "interval of each layer by itself (inner)"
    yield "by_layer", unitmem_by_layer(tables["layers"]), f"{caption}."
    caption = (
        "Excess of UnitMem over what exchangeable images would score; bars at the layers' means are approximate 95 % "
        "intervals for each layer by itself"
    ) + (", bands of the difference are by relabelling." if "over_other" in tables["null"] else ".")
    yield "excess", unitmem_excess(tables["null"], tables["excess"]), caption
    yield "histogram", unitmem_histogram(table), "UnitMem of all units, layer by layer."
    if scores:
        caption = "Every unit, sorted within its layer; in the null each unit has one draw of what it would score."
        yield "heatmap", unitmem_heatmap(layers, scores), caption
        caption = (
            "Only the top and bottom 10 % of all units, sorted within their layers; each panel has its own limits."
        )
        yield "extremes", unitmem_extremes(layers, scores), caption
        caption = "All units of all layers, and which share of each layer is among their top 10 %."
        yield "overall", unitmem_overall(scores, tables["extremes"]), caption
    if "medians" in tables:
        caption = "UnitMem against the mean and against the median of the other images, and how alike they order units."
        yield "mean_and_median", unitmem_mean_and_median(table, tables["medians"]), caption
    caption = "How far the scores depend on the views and on N."
    yield "reliability", unitmem_reliability(tables["reliability"], tables.get("curve")), caption


@rc_context(STYLE)
def unitmem_by_layer(layers: Table) -> Figure:
    """UnitMem by layer (``UNITMEM_LAYERS``) beside what noise and held-out images score, and a pair's two contrasts."""
    pair = "unit_contrast" in layers
    figure = Figure(figsize=(9.6, 4.6), dpi=160, layout="constrained")
    axes = figure.subplot_mosaic("AB;AC" if pair else "A")
    x = np.arange(len(layers["layer"]))

    draw_scores(axes["A"], layers, null="expected of exchangeable images")
    axes["A"].set(title="UnitMem beside its controls", ylabel="UnitMem")
    axes["A"].legend(fontsize=8, loc="best")
    if pair:
        _interval(axes["B"], x, layers, "unit_contrast", BLUE)
        axes["B"].axhline(0, color="black", lw=0.8)
        axes["B"].set(title="Unit contrast: 0 if nothing is memorised", ylabel="unit contrast")
        share = {"own_max": layers["own_max_share"], **layers}
        _interval(axes["C"], x, share, "own_max", PURPLE)
        axes["C"].axhline(0.5, color="black", lw=0.8)
        axes["C"].set(title="Own-max share: 0.5 if nothing is memorised", ylabel="share of units")
        figure.legend(*axes["B"].get_legend_handles_labels(), fontsize=8, loc="outside lower right", ncols=2)
    for ax in axes.values():
        layer_ticks(ax, layers["layer"])
    return figure


def draw_scores(ax: Axes, layers: Table, *, null: str) -> None:
    """Draw highest, 95th percentile and mean of the units' scores by layer, beside held-out images and the null.

    Args:
        ax: where, from 0 to 1.
        layers: columns ``max``, ``p95``, ``mean``, ``held_out_mean``, ``null_mean`` and ``null_p95``, a row for each
            layer; held-out images are left out where there are none.
        null: what the legend calls the null.
    """
    x = np.arange(len(layers["layer"]))
    every = marker_spacing(x)
    ax.plot(x, layers["max"], ".", color=BLUE, alpha=0.6, label="highest unit")
    ax.plot(x, layers["p95"], "-", color=BLUE, lw=0.9, label="95th percentile of units")
    ax.plot(x, layers["mean"], "o-", color=BLUE, label="mean over units", markevery=every)
    if np.isfinite(layers["held_out_mean"]).any():
        ax.plot(x, layers["held_out_mean"], "^--", color=GREEN, label="mean, held-out images", markevery=every)
    mean, p95 = layers["null_mean"], layers["null_p95"]
    ax.plot(x, mean, ":", color=GREY, label=null)
    ax.fill_between(x, mean, p95, color=GREY, alpha=0.18, lw=0, label="up to their 95th percentile")
    ax.set_ylim(0, 1.02)


def small_panels(names: Sequence[str], row_height: float, **shared: Any) -> tuple[Figure, list[Axes]]:
    """One small panel for each layer, titled by its name, in rows of up to four.

    Args:
        names: of the layers.
        row_height: of a row of panels, inches.
        shared: ``sharex`` and ``sharey``, as `matplotlib.figure.Figure.subplots` has them.
    """
    columns = min(4, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(2.4 * columns, 0.7 + row_height * rows), dpi=160, layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False, **shared).flat)
    for ax in axes[len(names) :]:
        ax.remove()
    for ax, name in zip(axes, names, strict=False):
        ax.set_title(name, fontsize=9)
    return figure, axes[: len(names)]


@rc_context(STYLE)
def unitmem_histogram(table: Table, layers: Sequence[str] | None = None) -> Figure:
    """Histograms of UnitMem, one small panel per layer, dead units left out.

    Args:
        table: columns ``UNITMEM_TABLE``.
        layers: which layers; at most `MOST_PANELS`, spread over the depth, when None.
    """
    names = spread_over(_layers_of(table), MOST_PANELS) if layers is None else list(layers)
    figure, axes = small_panels(names, 1.5, sharex=True)
    bins = np.linspace(0, 1, 41).tolist()
    for ax, name in zip(axes, names, strict=True):
        rows_of_layer = table["layer"] == name
        alive = table["unitmem"][rows_of_layer & ~table["dead"]]
        dead = int((rows_of_layer & table["dead"]).sum())
        ax.hist(alive, bins, color=BLUE)
        note = f"{len(alive)} units" + (f"\n{dead} dead" if dead else "")
        if len(alive):
            ax.axvline(alive.mean(), color=ORANGE, lw=1.3)
            note += f"\nmean {alive.mean():.3f}"
        right = not len(alive) or alive.mean() < 0.5
        ax.text(0.98 if right else 0.03, 0.95, note, transform=ax.transAxes, va="top", fontsize=7.5,
                ha="right" if right else "left", color="#444444", bbox=NOTE_BOX)  # fmt: skip
        ax.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    figure.supxlabel("UnitMem", fontsize=9.5)
    figure.supylabel("number of units", fontsize=9.5)
    return figure


@rc_context(STYLE)
def unitmem_reliability(halves: Table, curve: Table | None = None) -> Figure:
    """Rank correlation of the units' scores between two halves of the views, and mean UnitMem against images.

    Args:
        halves: columns ``UNITMEM_RELIABILITY``.
        curve: columns ``UNITMEM_CURVE``; None leaves the second panel out.
    """
    figure = Figure(figsize=(9.6, 3.4), dpi=160, layout="constrained")
    axes = figure.subplot_mosaic("A" if curve is None else "AB")
    x = np.arange(len(halves["layer"]))
    axes["A"].plot(x, halves["split_half"], "o-", color=BLUE, markevery=marker_spacing(x))
    axes["A"].set_ylim(min(0.0, float(np.nanmin(halves["split_half"], initial=0.0))) - 0.02, 1.02)
    axes["A"].set(
        title="Split-half reliability: 1 if the views do not matter", ylabel="rank correlation of the units' scores"
    )
    layer_ticks(axes["A"], halves["layer"])
    if curve is not None:
        names = _layers_of(curve)
        for index, name in spread_over(list(enumerate(names)), CURVES):
            rows = curve["layer"] == name
            colour = _depth_colour(index, len(names))
            axes["B"].plot(curve["n"][rows], curve["mean"][rows], "o-", color=colour, label=name)
        axes["B"].set_xscale("log")
        axes["B"].set_xticks(np.unique(curve["n"]), [f"{n}" for n in np.unique(curve["n"])])
        axes["B"].minorticks_off()
        axes["B"].set(title="UnitMem grows with the images, for noise too", xlabel="images", ylabel="mean UnitMem")
        axes["B"].legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


@rc_context(STYLE)
def unitmem_excess(null: Table, excess: Table) -> Figure:
    """Excess over the null: means by layer (``UNITMEM_NULL``) with held-out images, every unit (``UNITMEM_EXCESS``).

    Of a pair also how far it lies above that on the images of the other member.
    """
    pair = "over_other" in null
    figure = Figure(figsize=(9.6, 7.0 if pair else 3.8), dpi=160, layout="constrained")
    axes = figure.subplot_mosaic("AC;BB" if pair else "AB")
    x = np.arange(len(null["layer"]))
    members = {
        "excess": (BLUE, "o", -0.13, "images scored"),
        "held_out_excess": (GREEN, "^", 0.13, "held-out images"),
        "other_excess": (ORANGE, "D", 0.3, "the other member's images"),
    }
    for name, (colour, marker, shift, label) in members.items():
        middle = null.get(name, np.full(len(x), np.nan))
        if not np.isfinite(middle).any():
            continue
        low, high = (null.get(f"{name.removesuffix('_excess')}_{end}", middle) for end in ("low", "high"))
        bars = None if name == "other_excess" else (middle - low, high - middle)
        axes["A"].errorbar(x + shift, middle, bars, fmt=marker, color=colour, capsize=2, elinewidth=1, label=label)
    axes["A"].set(
        title="Mean excess: 0 if images are exchangeable",
        ylabel="UnitMem minus its null, mean over units\n(bars: approximate 95 %, by layer)",
    )
    depth = excess["depth"] + np.random.default_rng(0).uniform(-0.3, 0.3, len(excess["depth"]))
    above = excess["unitmem"] > excess["null_p95"]
    axes["B"].plot(depth[~above], excess["excess"][~above], ".", ms=2.5, color=GREY, alpha=0.5, label="within its null")
    label = "above its own null's 95th percentile"
    trusted = excess.get("p95_calibrated", np.ones(len(above), dtype=bool))
    axes["B"].plot(depth[above & trusted], excess["excess"][above & trusted], ".", ms=4, color=BLUE, label=label)
    if (doubtful := above & ~trusted).any():
        label = "above one that is not calibrated"
        axes["B"].plot(
            depth[doubtful], excess["excess"][doubtful], ".", ms=4, mfc="none", mew=0.6, color=BLUE, label=label
        )
    title = "Every unit: 5 to 9 % lie above by chance" + ("" if trusted.all() else ", where calibrated")
    axes["B"].set(title=title, ylabel="UnitMem minus its null")
    if pair:
        _interval(axes["C"], x, null, "over_other", PURPLE)
        axes["C"].set(title="Own minus other's images: 0 by chance", ylabel="difference of excesses")
    for ax in axes.values():
        ax.axhline(0, color="black", lw=0.8)
        bottom, top = ax.get_ylim()
        ax.set_ylim(bottom, top + (0.26 if pair else 0.2) * (top - bottom))  # room for the legend
        ax.legend(fontsize=8, loc="upper left")
        layer_ticks(ax, null["layer"])
    return figure


@rc_context(STYLE)
def unitmem_mean_and_median(table: Table, medians: Table) -> Figure:
    """Both forms of each living unit (``UNITMEM_TABLE``), and their correlation in each layer (``UNITMEM_MEDIANS``)."""
    figure = Figure(figsize=(9.6, 4.0), dpi=160, layout="constrained")
    axes = figure.subplot_mosaic("AB")
    scored = medians["scores"] == "scored"
    names = medians["layer"][scored][:-1].tolist()
    named = spread_over(names, CURVES)
    for index, name in enumerate(names):
        rows = (table["layer"] == name) & ~table["dead"]
        colour = _depth_colour(index, len(names))
        label = name if name in named else None
        axes["A"].plot(table["unitmem"][rows], table["unitmem_median"][rows], ".", ms=2.5, color=colour, label=label)
    axes["A"].axline((0, 0), slope=1, color="black", lw=0.8)
    axes["A"].set(
        title="Every unit: on the line if both forms agree",
        xlabel="UnitMem, mean of the other images",
        ylabel="UnitMem, median of the other images",
    )
    axes["A"].legend(fontsize=8, loc="lower right", markerscale=4)
    for kind, label, hue in (("scored", "images scored", BLUE), ("held_out", "held-out images", GREEN)):
        rows = np.flatnonzero(medians["scores"] == kind)[:-1]
        if not len(rows):
            continue
        x = np.arange(len(rows))
        every = marker_spacing(x)
        lines = (("spearman", "-", "rank correlation"), ("pearson", ":", "correlation"))
        for column, line, words in lines:
            text = f"{words}, {label}"
            axes["B"].plot(x, medians[column][rows], f"o{line}", color=hue, label=text, markevery=every)
    axes["B"].set(title="Within a layer: 1 if ordered alike", ylabel="correlation over the layer's units")
    low, _ = axes["B"].get_ylim()
    axes["B"].set_ylim(min(low, 0.9), 1.005)
    axes["B"].legend(fontsize=8, loc="lower left")
    layer_ticks(axes["B"], np.array(names))
    return figure


@rc_context(STYLE)
def unitmem_heatmap(layers: NDArray[np.str_], scores: Scores) -> Figure:
    """Every unit: a row per layer, its units from the highest score on the left, dead ones at the end.

    Args:
        layers: ``(U,)`` layer of each unit, in execution order.
        scores: ``(U,)`` each, in one panel each.
    """
    titles = {name: f"{_title(name)}\nmean {np.nanmean(values):.3f}" for name, values in scores.items()}
    return _maps(layers, scores, {name: np.ones(len(layers), dtype=bool) for name in scores}, titles, "grey: dead")


@rc_context(STYLE)
def unitmem_extremes(layers: NDArray[np.str_], scores: Scores) -> Figure:
    """The heatmap with only the top and bottom 10 % of all layers' units.

    Args:
        layers: ``(U,)`` layer of each unit, in execution order.
        scores: ``(U,)`` each, in one panel each; the limits are each panel's own.
    """
    shown, titles = {}, {}
    for name, values in scores.items():
        alive = np.sort(values[np.isfinite(values)])
        tenth = max(1, int(0.1 * len(alive)))
        low, high = alive[tenth - 1], alive[-tenth]
        shown[name] = ~((values > low) & (values < high))
        titles[name] = f"{_title(name)}\ntop from {high:.3f}, bottom to {low:.3f}"
    return _maps(layers, scores, shown, titles, "white: between, grey: dead")


def _title(name: str) -> str:
    return NAMES[name][0].upper() + NAMES[name][1:]


def _maps(
    layers: NDArray[np.str_],
    scores: Scores,
    shown: Mapping[str, NDArray[np.bool_]],
    titles: Mapping[str, str],
    note: str,
) -> Figure:
    names = _layers_of({"layer": layers})
    height = float(np.clip(0.22 * len(names), 1.6, 9))
    figure = Figure(figsize=(9.6, 1.3 + height), dpi=160, layout="constrained")
    axes = figure.subplots(1, len(scores), sharey=True, squeeze=False)[0]
    colours = colormaps["viridis"].with_extremes(bad="#c8c8c8", over="white")
    scale = Normalize(0, 1)
    for ax, (name, values) in zip(axes, scores.items(), strict=True):
        rows = np.stack([_sampled(values[layers == layer], shown[name][layers == layer]) for layer in names])
        edges = (0.0, 1.0, len(names) - 0.5, -0.5)
        ax.imshow(rows, extent=edges, aspect="auto", cmap=colours, norm=scale, interpolation="nearest")
        ax.hlines(np.arange(1, len(names)) - 0.5, 0, 1, color="white", lw=0.8 if len(names) <= ROWS_NAMED else 0)
        ax.set_title(titles[name], fontsize=9)
        ax.set_xticks([0, 0.5, 1], ["highest", "units of a layer", "lowest"], fontsize=8)
        for label, side in zip(ax.get_xticklabels(), ("left", "center", "right"), strict=True):
            label.set_horizontalalignment(side)
        ax.tick_params(axis="x", length=0)
        ax.spines[:].set_visible(False)
        ax.grid(visible=False)
    layer_ticks(axes[0], np.array(names), axis="y", most=ROWS_NAMED)
    for row, layer in enumerate(names if len(names) <= ROWS_NAMED else []):
        axes[-1].text(1.02, row, f"{int((layers == layer).sum())}", va="center", fontsize=7, color="#444444")
    label = f"UnitMem ({note})"
    figure.colorbar(ScalarMappable(scale, colours), ax=axes.tolist(), label=label, pad=0.04, fraction=0.03)
    return figure


def _sampled(scores: NDArray[np.float64], shown: NDArray[np.bool_]) -> NDArray[np.float64]:
    """A layer's scores in descending order, dead units last, as a row of `WIDTH` values; above 1 where not shown."""
    order = np.argsort(-scores, kind="stable")
    coloured = np.where(shown | np.isnan(scores), scores, 2.0)[order]
    sampled: NDArray[np.float64] = coloured[np.arange(WIDTH) * len(scores) // WIDTH]
    return sampled


@rc_context(STYLE)
def unitmem_overall(scores: Scores, extremes: Table) -> Figure:
    """Histogram of all units with the overall means, and where the top tenth of them lies (``UNITMEM_EXTREMES``)."""
    figure = Figure(figsize=(9.6, 3.8), dpi=160, layout="constrained")
    axes = figure.subplot_mosaic("AB", width_ratios=[1.1, 1])
    bins = np.linspace(0, 1, 51).tolist()
    for name, values in scores.items():
        alive = values[np.isfinite(values)]
        colour, line = STYLES[name]
        label = f"{NAMES[name]}: mean {alive.mean():.3f}"
        solid = name == "scored"
        axes["A"].hist(
            alive, bins, histtype="stepfilled" if solid else "step", color=colour, alpha=0.45 if solid else 1, lw=1.4,
            label=label,
        )  # fmt: skip
        axes["A"].axvline(alive.mean(), color=colour, ls=line[1:], lw=1.4)
        rows = extremes["scores"] == name
        x = np.arange(rows.sum())
        axes["B"].plot(x, extremes["top"][rows], line, color=colour, label=NAMES[name], markevery=marker_spacing(x))
    axes["A"].set(
        title="All units: exchangeable images do not score 0",
        xlabel="UnitMem; lines at the means",
        ylabel="number of units",
    )
    axes["A"].set_ylim(0, 1.4 * axes["A"].get_ylim()[1])  # room for the legend
    side: Literal["upper right", "upper left"] = "upper right" if np.nanmean(scores["scored"]) < 0.5 else "upper left"
    axes["A"].legend(fontsize=8, loc=side, frameon=True, edgecolor="none", framealpha=0.9)
    axes["B"].axhline(0.1, color="black", lw=0.8)
    axes["B"].set(title="Top 10 % of all units: .1 if no layer has more", ylabel="share of the layer's units")
    axes["B"].set_ylim(0, max(0.2, 1.05 * float(np.nanmax(extremes["top"]))))
    axes["B"].legend(fontsize=8, loc="best")
    layer_ticks(axes["B"], extremes["layer"][extremes["scores"] == extremes["scores"][0]])
    return figure


def _layers_of(table: Table) -> list[str]:
    """The layers that a table has rows of, in their order."""
    return list(dict.fromkeys(table["layer"].tolist()))


def _depth_colour(index: int, count: int) -> tuple[float, float, float, float]:
    """The colour of a layer: dark for the first of them, bright for the last."""
    return colormaps["viridis"](0.92 * index / max(1, count - 1))
