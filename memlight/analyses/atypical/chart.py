"""Charts of atypical images from their tables. No torch."""

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from memlight.analyses.atypical.columns import WORDS
from memlight.display.figures import BLUE, GREEN, GREY, STYLE, _interval, layer_ticks, value_and_error
from memlight.storage.tables import Table

ACROSS = 3
"""Panels side by side."""

PLACEBO_LINES = {"external": (GREEN, "^--"), "shared": (GREY, "v:")}


@rc_context(STYLE)
def atypical_by_depth(table: Table) -> Figure:
    """The difference of rank correlations from the first placebo, a panel for each measure.

    Args:
        table: columns ``ATYPICAL_TABLE``.
    """
    measures, placebos = (list(dict.fromkeys(table[name].tolist())) for name in ("measure", "placebo"))
    figure, axes = _panels(len(measures))
    for ax, measure in zip(axes, measures, strict=True):
        first = _rows(table, measure=measure, placebo=placebos[0])
        x = np.arange(len(first["layer"]))
        _interval(ax, x, first, "rho_difference", BLUE)
        for placebo in placebos:
            colour, line = PLACEBO_LINES[placebo]
            ax.plot(x, _rows(table, measure=measure, placebo=placebo)["rho_placebo"], line, color=colour, lw=1.1, ms=3)
        ax.axhline(0, color="black", lw=0.8)
        ax.set_title(_wrapped(measure), fontsize=9)
        layer_ticks(ax, first["layer"], most=10)
    for ax in axes[::ACROSS]:
        ax.set_ylabel("Spearman's rho")
    ax = axes[0]
    ax.plot([], [], "o-", color=BLUE, label=f"own images minus {placebos[0]} images")
    for placebo in placebos:
        colour, line = PLACEBO_LINES[placebo]
        ax.plot([], [], line, color=colour, label=f"{placebo} images by themselves (placebo)")
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    return figure


@rc_context(STYLE)
def atypical_fifths(fifths: Table) -> Figure:
    """Mean score by fifth of each measure, of own images and of placebos.

    Args:
        fifths: columns ``ATYPICAL_FIFTHS``.
    """
    measures = list(dict.fromkeys(fifths["measure"].tolist()))
    figure, axes = _panels(len(measures))
    lines = {"own": ("own images", BLUE, "o-", 0.0)}
    for shift, (name, (colour, line)) in zip((0.1, -0.1), PLACEBO_LINES.items(), strict=True):
        lines[name] = (f"{name} images (placebo)", colour, line, shift)
    for ax, measure in zip(axes, measures, strict=True):
        rows = _rows(fifths, measure=measure)
        for name, (label, colour, line, shift) in lines.items():
            if np.isfinite(rows[name]).all():
                value, error = value_and_error(rows, name)
                x = rows["fifth"] + shift
                ax.errorbar(x, value, error, fmt=line, color=colour, label=label, capsize=2, elinewidth=1, lw=1.2)
        ax.axhline(0, color="black", lw=0.8)
        ax.set_title(_wrapped(measure), fontsize=9)
        ax.set_xticks(rows["fifth"], ["typical", "", "", "", "atypical"])
    for ax in axes[::ACROSS]:
        ax.set_ylabel(f"mean score in {fifths['layer'][0]}")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    return figure


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    across, down = min(count, ACROSS), -(-count // ACROSS)
    figure = Figure(figsize=(9.6, 0.9 + 2.6 * down), dpi=160, layout="constrained")
    axes = figure.subplots(down, across, squeeze=False, sharey=True).ravel().tolist()
    for ax in axes[count:]:
        ax.remove()
    return figure, axes[:count]


def _rows(table: Table, **wanted: str) -> Table:
    """The rows where columns have these values."""
    rows = np.logical_and.reduce([table[name] == value for name, value in wanted.items()])
    return {name: values[rows] for name, values in table.items()}


def _wrapped(measure: str) -> str:
    return WORDS.get(measure, measure).replace(" (", "\n(")
