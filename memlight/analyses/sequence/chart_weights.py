"""Where heads look and what memories are known by: pictures of attention and keys. No torch."""

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from memlight.analyses.sequence.chart import hues
from memlight.display.figures import MOST_PANELS, STYLE, spread_over
from memlight.storage.tables import Table


@rc_context(STYLE)
def attention_maps(maps_HNN: NDArray[np.float64], names: list[str], query: str) -> Figure:
    """What every head looks at: a row for each prefix or position, a column for each bit; one member.

    Args:
        maps_HNN: ``(H, N, N)`` rows sum to 1; NaN where nothing can be seen. At most `MOST_PANELS` heads are drawn,
            on a scale that ends at the largest share in the second half of the rows.
        names: of the heads.
        query: what a row is.
    """
    shown = spread_over(list(zip(names, maps_HNN, strict=True)), MOST_PANELS)
    columns = min(4, len(shown))
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(2.4 * columns + 0.9, 0.7 + 2.3 * rows), dpi=160, layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    long = maps_HNN.shape[1] // 2  # short prefixes have large shares whatever is learned
    top = max(float(np.nanmax(picture[long:], initial=0)) for _, picture in shown)
    scale = Normalize(0, top or 1)
    for ax, (name, picture) in zip(grid.flat, shown, strict=False):
        _picture(ax, picture, scale)
        ax.set_aspect("equal")
        ax.set_title(name, fontsize=9)
    for ax in list(grid.flat)[len(shown) :]:
        ax.remove()
    figure.supxlabel("bit looked at", fontsize=9.5)
    figure.supylabel(query, fontsize=9.5)
    drawn = list(grid.flat)[: len(shown)]
    mappable = ScalarMappable(scale, _palette())
    figure.colorbar(mappable, ax=drawn, label="share of attention", extend="max", fraction=0.04, pad=0.02)
    return figure


@rc_context(STYLE)
def attention_and_keys(pictures: dict[str, NDArray[np.float64]], weights: Table) -> Figure:
    """A over the longest prefix and B as images, of one member, above what is measured of all.

    Args:
        pictures: title and ``(H, N)``, rows sum to 1, of two pictures or four.
        weights: columns ``WEIGHTS`` of one run.
    """
    measures = list(dict.fromkeys(weights["measure"].tolist()))
    steps = np.unique(weights["step"])
    pairs = -(-len(pictures) // 2)
    figure = Figure(figsize=(9.6, 2.4 * pairs + 2.6), dpi=160, layout="constrained")
    layout = ";".join(["".join(chr(65 + 2 * row + column) for column in (0, 1)) for row in range(pairs)] + ["ZZ"])
    axes = figure.subplot_mosaic(layout, height_ratios=[1.0] * pairs + [1.1])
    scale = Normalize(0, max(float(np.nanmax(picture)) for picture in pictures.values()))
    drawn = [ax for name, ax in axes.items() if name != "Z"]
    for ax, (title, picture) in zip(drawn, pictures.items(), strict=True):
        _picture(ax, picture, scale)
        ax.set_title(title, fontsize=9.5)
        ax.set_ylabel("head")
        ax.set_xlabel("bit")
    figure.colorbar(ScalarMappable(scale, _palette()), ax=drawn, label="weight", fraction=0.03, pad=0.02)
    ax = axes["Z"]
    for place, (colour, step) in enumerate(zip(hues(len(steps)), steps.tolist(), strict=True)):
        rows = weights["step"] == step
        where = np.array([measures.index(name) for name in weights["measure"][rows].tolist()])
        middle, low, high = (weights[name][rows] for name in ("value", "low", "high"))
        error = np.nan_to_num(np.stack([middle - low, high - middle]))
        shift = 0.5 * (place - (len(steps) - 1) / 2) / len(steps)
        ax.errorbar(
            where + shift, middle, error, fmt="o", color=colour, capsize=3, elinewidth=1.1, label=f"step {step}"
        )
    ax.axhline(0, color="black", lw=0.8)
    ax.set_title("Mean over members: correlations are 0 if unrelated")
    ax.set_xticks(range(len(measures)), [name.replace(" ", "\n", 1) for name in measures], fontsize=8)
    ax.set_xlim(-0.6, len(measures) - 0.4)
    ax.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _picture(ax: Axes, picture: NDArray[np.float64], scale: Normalize) -> None:
    ax.imshow(picture, cmap=_palette(), norm=scale, interpolation="nearest", aspect="auto")
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    ax.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    ax.grid(visible=False)


def _palette() -> Colormap:
    return colormaps["viridis"].with_extremes(bad="#e4e4e4")
