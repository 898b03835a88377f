"""What leaving candidates out of the training costs: a chart from its tables. No torch."""

from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from memlight.display.figures import BLUE, GREEN, GREY, STYLE, name_bars, outer_bars, value_and_error
from memlight.display.pictures import drawable
from memlight.storage.tables import Table

ARMS = {"top": "most\nmemorised", "random": "random", "low": "least\nmemorised"}
"""Arm -> what stands below it."""

COLOURS = {"top": BLUE, "random": GREY, "low": GREEN}
ERROR: dict[str, Any] = {"capsize": 3, "elinewidth": 1.6}

MOST_CLASSES = 20
"""With more classes their panel is left out."""

MOST_LETTERS = 90
"""Letters of the classes' names that fit beside one another."""


@rc_context(STYLE)
def removal_costs(table: Table, effects: Table, classes: Table) -> Figure:
    """Accuracy lost by every arm, what leaving out by score costs more than random, and the classes of the images.

    Random draws are small points; beside them their mean with the interval where one more draw is expected. The other
    intervals are the table's, of each arm by itself; thin lines are the band that holds both excesses at once.

    Args:
        table: columns ``REMOVAL_TABLE``.
        effects: columns ``REMOVAL_EFFECTS``.
        classes: columns ``REMOVAL_CLASSES``.
    """
    names = list(dict.fromkeys(classes["class_name"].tolist()))
    with_classes = 0 < len(names) <= MOST_CLASSES
    figure = Figure(figsize=(9.6, 6.6 if with_classes else 3.6), dpi=160, layout="constrained")
    axes = figure.subplot_mosaic("AB;CC" if with_classes else "AB")
    draws = 100 * table["drop"][table["arm"] == "random"]
    for panel, name, arms, title, label in (
        ("A", "drop", list(ARMS), "Probe accuracy lost: 0 is all images", "accuracy lost (points)"),
        ("B", "excess", ["top", "low"], "Against random: 0 costs as much as it", "lost more than random (points)"),
    ):
        ax = axes[panel]
        ax.axhline(0, color="black", lw=0.8)
        ax.set_xticks(range(len(arms)), [ARMS[arm] for arm in arms])
        ax.set_xlim(-0.6, len(arms) - 0.4)
        ax.set(title=title, xlabel="images left out", ylabel=label)
        if name == "drop":
            _random(ax, draws, effects)
        for row, arm in enumerate(effects["arm"].tolist()):
            outer_bars(ax, arms.index(arm), effects, name, row, COLOURS[arm])
        for row, arm in enumerate(effects["arm"].tolist()):
            if np.isfinite(effects[name][row]):
                points = value_and_error(effects, name, row, 100)
                ax.errorbar(arms.index(arm), *points, color=COLOURS[arm], fmt="o", **ERROR)
    if len(draws):
        name_bars(axes["A"], effects, "excess")
        axes["A"].legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.3), ncols=2)
    if with_classes:
        _classes(axes["C"], classes, names)
    return figure


def _random(ax: Axes, draws: NDArray[np.float64], effects: Table) -> None:
    """Every random draw, and their mean with the interval of one more where there are several."""
    middle = list(ARMS).index("random")
    if len(draws):
        places = middle + np.linspace(-0.12, 0.12, len(draws)) if len(draws) > 1 else [middle]
        ax.plot(places, draws, ".", color=GREY, ms=6, alpha=0.8, lw=0, label="random draws")
    if len(effects["random"]) and np.isfinite(effects["random_low"][0]):
        mean = value_and_error(effects, "random", 0, 100)
        ax.errorbar(middle + 0.25, *mean, color="black", fmt="_", **ERROR, label="their mean, and one more draw")


def _classes(ax: Axes, classes: Table, names: list[str]) -> None:
    x = np.arange(len(names))
    arms = [arm for arm in ARMS if (classes["arm"] == arm).any()]
    width = 0.8 / len(arms)
    for index, arm in enumerate(arms):
        rows = classes["arm"] == arm
        counts = classes["removed"][rows].reshape(-1, len(names))
        label = ARMS[arm].replace("\n", " ") + (f", mean of {len(counts)}" if len(counts) > 1 else "")
        places = x + (index - (len(arms) - 1) / 2) * width
        ax.bar(places, counts.mean(0), width, color=COLOURS[arm], label=label)
    first = classes["candidates"][: len(names)]
    share = classes["removed"][: len(names)].sum() / max(1, first.sum())
    ax.hlines(share * first, x - 0.4, x + 0.4, color="black", lw=1.2, label="in proportion to all candidates")
    ax.set_title("Classes of the images left out")
    ax.set_ylabel("images")
    turned = 30 if sum(map(len, names)) > MOST_LETTERS else 0
    ax.set_xticks(x, [drawable(name) for name in names], rotation=turned)
    ax.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.12 if turned == 0 else -0.35), ncols=4)
