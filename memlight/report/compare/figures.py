"""Charts of several runs: by depth, by group, and their headline numbers. No torch."""

from collections.abc import Sequence
from itertools import cycle
from textwrap import fill

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from memlight.analyses.registry import headline_numbers
from memlight.display.figures import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    STYLE,
    layer_ticks,
    marker_spacing,
    name_bars,
    outer_bars,
)
from memlight.report.compare.groups import Curve, Group, group_curve, run_curve, spread
from memlight.report.compare.runs import Axis
from memlight.storage.tables import Table

COLOURS = (BLUE, ORANGE, GREEN, PURPLE, "#56B4E9", "#882255", "#999933", GREY)
"""Hues of groups that have no order (Okabe & Ito 2008; Tol 2021)."""

LINES = ("-", "--", "-.", ":")
"""Lines of the runs of one group."""

LEGEND_ROWS = 24
"""A longer legend is cut, and says so."""


@rc_context(STYLE)
def contrast_by_depth(groups: Sequence[Group], axis: Axis) -> Figure:
    """The contrast of every run with its interval over images; runs of one group share a colour, not a line.

    Args:
        groups: all runs.
        axis: where their layers stand.
    """
    figure, (ax,) = _panels(1)
    for group, colour in zip(groups, group_colours(groups), strict=True):
        for run, line in zip(group.runs, cycle(LINES)):
            _curve(ax, run_curve(run, axis, "contrast"), axis, colour, run.name, line)
    ax.set_title("Contrast of every run: 0 where nothing is memorised")
    return _finished(figure, [ax], axis, "contrast")


@rc_context(STYLE)
def contrast_by_group(groups: Sequence[Group], axis: Axis) -> Figure:
    """The contrast of every group: the mean of its runs, from the lowest to the highest of them.

    Args:
        groups: all runs.
        axis: where their layers stand.
    """
    figure, (ax,) = _panels(1)
    for group, colour in zip(groups, group_colours(groups), strict=True):
        label = f"{group.label}\N{NO-BREAK SPACE}({len(group.runs)})"
        _curve(ax, group_curve(group, axis, "contrast"), axis, colour, label)
    ax.set_title("Contrast by group: mean, lowest to highest run")
    return _finished(figure, [ax], axis, "contrast")


@rc_context(STYLE)
def unitmem_by_depth(groups: Sequence[Group], axis: Axis) -> Figure:
    """Mean UnitMem beside the null, dotted, and the unit contrast with its interval.

    Args:
        groups: all runs; several runs of a group are shown by their mean, lowest and highest.
        axis: where their layers stand.
    """
    figure, (scores, contrast) = _panels(2)
    for group, colour in zip(groups, group_colours(groups), strict=True):
        label = group.label if len(group.runs) == 1 else f"{group.label}\N{NO-BREAK SPACE}({len(group.runs)})"
        _curve(scores, group_curve(group, axis, "unitmem"), axis, colour, label)
        _curve(contrast, group_curve(group, axis, "unit_contrast"), axis, colour)
        null = group_curve(group, axis, "null")
        scores.plot(_x(null, axis), null.middle, ":", color=colour, lw=1.2)
    scores.set_title("Mean UnitMem; dotted: of exchangeable images", fontsize=9)
    contrast.set_title("Unit contrast: 0 if nothing is memorised", fontsize=9)
    contrast.axhline(0, color="black", lw=0.8)
    scores.set_ylabel("UnitMem")
    return _finished(figure, [scores, contrast], axis, "unit contrast", legend=scores)


@rc_context(STYLE)
def headline_dots(groups: Sequence[Group]) -> Figure:
    """A row per group and a dot per run, with its interval over images where it has one; a bar at a group's mean.

    Args:
        groups: all runs.
    """
    shown = {name: number for name, number in headline_numbers().items() if number.panel}
    names = [name for name in shown if any(spread(group, name).runs for group in groups)]
    height = 0.9 + sum(0.32 + 0.1 * (len(group.runs) - 1) for group in groups)
    figure = Figure(figsize=(9.6, min(height, 14)), dpi=130, layout="constrained")
    panels = figure.subplots(1, max(len(names), 1), sharey=True, squeeze=False)[0]
    for ax, name in zip(panels, names, strict=False):
        for row, (group, colour) in enumerate(zip(groups, group_colours(groups), strict=True)):
            values = np.array([run.number(name) for run in group.runs])
            y = row + np.linspace(-0.25, 0.25, len(values)) if len(values) > 1 else np.array([float(row)])
            if shown[name].interval:
                low, high = (np.array([run.number(f"{name}_{end}") for run in group.runs]) for end in ("low", "high"))
                ax.errorbar(values, y, xerr=(values - low, high - values), fmt="none", ecolor=colour, elinewidth=1.2)
            ax.plot(values, y, "o", color=colour)
            if len(values) > 1:
                ax.vlines(spread(group, name).mean, row - 0.38, row + 0.38, color="black", lw=1.2)
        if shown[name].interval:
            ax.axvline(shown[name].chance, color="black", lw=0.8)
        ax.set_title(shown[name].panel, fontsize=8.5)
        ax.grid(axis="x")
        ax.tick_params(axis="x", labelsize=8)
        ax.locator_params(axis="x", nbins=4)
    panels[0].set_yticks(range(len(groups)), [fill(group.label, 30) for group in groups], fontsize=8)
    panels[0].set_ylim(len(groups) - 0.5, -0.5)
    return figure


def group_colours(groups: Sequence[Group]) -> list[str]:
    """A ramp where groups differ in one number, as a dose; hues that stay apart otherwise."""
    values = [next(iter(group.values.values())) for group in groups if len(group.values) == 1]
    ordered = len(values) == len(groups) and all(isinstance(value, int | float) for value in values)
    if ordered or len(groups) > len(COLOURS):
        ramp = colormaps["viridis"](np.linspace(0.82, 0.0, len(groups)))
        return [to_hex(colour) for colour in ramp]
    return list(COLOURS[: len(groups)])


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(9.6, 3.9), dpi=130, layout="constrained")
    return figure, list(figure.subplots(1, count, squeeze=False)[0])


def _x(curve: Curve, axis: Axis) -> np.ndarray:
    """Positions on the axis: the index of a named layer, or relative depth."""
    return np.asarray(curve.x * (len(axis.layers) - 1) if axis.layers else curve.x)


def _curve(ax: Axes, curve: Curve, axis: Axis, colour: str, label: str | None = None, line: str = "-") -> None:
    if len(curve.x) == 0:
        return
    x = _x(curve, axis)
    ax.fill_between(x, curve.low, curve.high, color=colour, alpha=0.16, lw=0)
    ax.plot(x, curve.middle, f"o{line}", color=colour, ms=3.5, label=label, markevery=marker_spacing(x))


def _finished(figure: Figure, panels: Sequence[Axes], axis: Axis, label: str, legend: Axes | None = None) -> Figure:
    """Zero line, label and depth of the last panel, and one legend beside the panels."""
    panels[-1].axhline(0, color="black", lw=0.8)
    panels[-1].set_ylabel(label)
    for ax in panels:
        if axis.layers:
            layer_ticks(ax, np.array(axis.layers), most=14 if len(panels) == 1 else 10)
        else:
            ax.set_xlabel("relative depth (0 = first layer, 1 = last)")
    handles, labels = (legend or panels[-1]).get_legend_handles_labels()
    more = len(handles) - LEGEND_ROWS
    title = f"and {more} more" if more > 0 else None
    figure.legend(
        handles[:LEGEND_ROWS],
        [fill(text, 26) for text in labels[:LEGEND_ROWS]],
        loc="outside right upper",
        fontsize=8,
        title=title,
        title_fontsize=8,
    )
    return figure


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
    name_bars(grid.flat[0], means, "mean")
    handles, labels = grid.flat[0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=8)
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
    ax.errorbar(x, middle, error, fmt="o", color=BLUE, capsize=2.5, elinewidth=1.6, errorevery=every, markevery=every)
    limits = ax.get_ylim()
    outer_bars(ax, x[::every], means, "mean", np.flatnonzero(rows)[::every], BLUE, scale=1)
    ax.set_ylim(limits)  # of few runs the interval of all layers at once is many times as wide
