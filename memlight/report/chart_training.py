"""What was logged while encoders were trained. No torch."""

from collections.abc import Mapping

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import NDArray

from memlight.display.figures import BLUE, GREEN, GREY, ORANGE, STYLE
from memlight.storage.tables import Table

MEMBER_COLOURS = {"candidate": BLUE, "independent": ORANGE, "all": GREEN}


TRAINING_PANELS = {
    "loss": "loss",
    "embedding_std": "spread of embeddings\n(1 = isotropic, 0 = collapsed)",
    "lr": "learning rate",
    "top1": "kNN accuracy (fraction)",
}


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
