"""Charts of exchanged layers: a row for every subset that was exchanged. No torch, and no pyplot."""

import re
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from memlight.analyses.exchange.columns import DONOR, NONE, by_cost
from memlight.display.figures import BLUE, ORANGE, STYLE, name_bars, outer_bars, value_and_error
from memlight.storage.tables import Table

MOST_ROWS = 100
"""Subsets in one figure; of more the first and the last half are drawn."""

LONGEST_ROW = 26
"""Letters of a subset's name; of longer ones the end is shown."""

FORMS = {False: ("as they are", BLUE, "o", -0.18), True: ("BatchNorm measured anew", ORANGE, "D", 0.18)}


@rc_context(STYLE)
def exchange_accuracy(effects: Table) -> Figure:
    """Accuracy after each exchange on both data sets, beside that of the unexchanged encoder and of the donor.

    Rows are ordered by what the exchange costs on the first data set. The intervals are those of the difference to the
    unexchanged encoder of the same form, of each by itself; thin lines are those that hold all of them at once.

    Args:
        effects: columns ``EXCHANGE_EFFECTS``.
    """
    datasets = list(dict.fromkeys(effects["dataset"].tolist()))
    copies = [*by_cost(effects, datasets[0])][2:]
    figure, axes, names = _rows(copies, len(datasets), "subsets exchanged, the least costly first")
    for ax, dataset in zip(axes, datasets, strict=True):
        for form in _forms(effects):
            label, colour, _, shift = FORMS[form]
            row_of, top1 = by_cost(effects, dataset, form), 100 * effects["top1"]
            rows = [row_of[name] for name in names]
            _, error_of_drop = value_and_error(effects, "drop", rows, 100)
            ax.axvline(top1[row_of[NONE]], color=colour, lw=1.1, label=f"unexchanged, {label}")
            ax.axvline(top1[row_of[DONOR]], color=colour, lw=1.1, ls=":", label=f"donor, {label}")
            changes = _accuracies(effects, rows, top1[row_of[NONE]])
            outer_bars(ax, np.arange(len(rows)) + shift, changes, "top1", slice(None), colour, scale=1, along="x")
            _points(ax, top1[rows], error_of_drop[::-1], form, shift, f"exchanged, {label}")
        name_bars(ax, effects, "drop")
        ax.set_title(f"Accuracy on {dataset}")
        ax.set_xlabel("linear probe, % of test images")
    return _with_legend(figure, axes)


@rc_context(STYLE)
def exchange_layermem(layers: Table) -> Figure:
    """Published LayerMem and the contrast of the exchanged layers, before and after.

    Args:
        layers: columns ``EXCHANGE_LAYERS``; of several layers exchanged together the row of their mean is drawn.
    """
    last = {
        (name, form): row for row, (name, form) in enumerate(zip(layers["layers"], layers["recalibrated"], strict=True))
    }
    figure, axes, names = _rows(list(dict.fromkeys(layers["layers"].tolist())), 2, "subsets exchanged")
    for form in _forms(layers):
        label, _, _, shift = FORMS[form]
        rows = [last[name, form] for name in names]
        for when, nearby in (("before", shift - 0.09), ("after", shift + 0.09)):
            layermem = (layers[f"layermem_{when}"][rows], None)
            for ax, (x, error) in zip(axes, (layermem, value_and_error(layers, f"contrast_{when}", rows)), strict=True):
                _points(ax, x, error, form, nearby, f"{when}, {label}", filled=when == "after")
    for ax in axes:
        ax.axvline(0, color="black", lw=0.8)
    axes[0].set_title("LayerMem of the exchanged layers")
    axes[0].set_xlabel("mean SSLMem' (published;\n0 where both encoders align alike)")
    axes[1].set_title("Contrast: 0 if nothing is memorised")
    axes[1].set_xlabel("(own minus partner's images) / 2,\nof mean SSLMem'")
    return _with_legend(figure, axes)


def _accuracies(effects: Table, rows: list[int], none: float) -> Table:
    """The bands of drops as bands of accuracies, in per cent; nothing where there are none."""
    if "drop_simultaneous_low" not in effects:
        return {}
    low, high = (none - 100 * effects[f"drop_simultaneous_{end}"][rows] for end in ("high", "low"))
    return {"top1_simultaneous_low": low, "top1_simultaneous_high": high}


def _forms(table: Table) -> list[bool]:
    return [False, True] if table["recalibrated"].any() else [False]


def _rows(names: list[str], panels: int, label: str) -> tuple[Figure, list[Axes], list[str]]:
    """A figure with a row for each subset, its panels, and which subsets those are: of too many the first and last."""
    if len(names) > MOST_ROWS:
        half = MOST_ROWS // 2
        label += f" (the first and the last {half} of {len(names)})"
        names = [*names[:half], *names[-half:]]
    few = len(names) <= 24
    height = 1.7 + (0.36 if few else 0.2) * max(3, len(names))
    figure = Figure(figsize=(9.6, height), dpi=160, layout="constrained")
    axes = list(figure.subplots(1, panels, sharey=True, squeeze=False)[0])
    axes[0].set_yticks(np.arange(len(names)), [_short(name) for name in names], fontsize=8 if few else 6.5)
    axes[0].set_ylim(len(names) - 0.4, -0.6)
    axes[0].set_ylabel(label)
    for ax in axes:
        ax.grid(visible=True, axis="both")
        ax.xaxis.set_major_locator(MaxNLocator(6))
    return figure, axes, names


def _points(
    ax: Axes, x: NDArray[Any], error: NDArray[Any] | None, form: bool, shift: float, label: str, filled: bool = True
) -> None:
    """A point for each row, with its interval where there is one; hollow ones are those before the exchange."""
    _, colour, marker, _ = FORMS[form]
    style: dict[str, Any] = {"fmt": marker, "color": colour, "mfc": colour if filled else "white", "ms": 3.6}
    ax.errorbar(x, np.arange(len(x)) + shift, xerr=error, **style, elinewidth=1.4, capsize=0, label=label)


def _short(subset: str) -> str:
    """``layer4,layer6,layer8`` as ``layer4,6,8``; of what is still too long the end."""
    layers = subset.split(",")
    stems = {re.sub(r"\d+$", "", layer) for layer in layers}
    if len(stems) == 1:
        (stem,) = stems
        subset = stem + ",".join(layer.removeprefix(stem) for layer in layers)
    return subset if len(subset) <= LONGEST_ROW else f"…{subset[1 - LONGEST_ROW :]}"


def _with_legend(figure: Figure, axes: list[Axes]) -> Figure:
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=-(-len(handles) // 2), fontsize=8)
    return figure
