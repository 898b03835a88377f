"""Charts of a patch search: distances, how often sources are used, rarefaction; and single images with their sources.

The charts are of one set of images or of several beside one another. No torch is needed.
"""

import colorsys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from memlight.display.figures import BLUE, GREEN, GREY, ORANGE, PURPLE, STYLE
from memlight.display.pictures import drawable
from memlight.storage.tables import Table

COLOURS = (BLUE, ORANGE, GREEN, PURPLE, "#E69F00", "#56B4E9", "#332288", "#882255")

BINS = 60

SOURCES = 50
"""Sources whose numbers of patches are drawn."""

LONGEST_NAME = 28

Named = Mapping[str, NDArray[np.float64]]

Pixels = NDArray[np.uint8]

SINGLE = (0.72, 0.72, 0.72)
"""Colour of a source that gives one patch of the image alone."""

LEGEND = 4
"""Thumbnails of sources beside an image."""

MAP_PANELS = ("image", "nearest patches", "map of sources", "top contributor", "distance")

Box = tuple[int, int, int, int]
"""Top, left, bottom and right of a patch, in pixels."""


@rc_context(STYLE)
def patch_distances(distances: Named, metric: str) -> Figure:
    """Histograms of the distance to the nearest patch, of patches and of images' means.

    Args:
        distances: name of each set of images -> ``(images, patches)``.
        metric: what the distances are.
    """
    figure = Figure(figsize=(9.6, 3.7), dpi=160, layout="constrained")
    patches, images = figure.subplots(1, 2)
    highest = max(float(np.max(values)) for values in distances.values()) or 1.0
    bins = np.linspace(0, highest, BINS + 1)
    lines = cycle(("-", "--", ":"))  # of sets at one place all are seen
    for colour, line, (name, values) in zip(_colours(len(distances)), lines, distances.items(), strict=False):
        for ax, sample in ((patches, values.ravel()), (images, values.mean(1))):
            heights, _ = np.histogram(sample, bins)
            share = heights / len(sample)
            ax.stairs(share, bins, color=colour, ls=line, label=shortened(name), lw=1.8)
            ax.stairs(share, bins, color=colour, fill=True, alpha=0.12)
    patches.set_title("Patches: at 0 lie copies")
    images.set_title("Means over the patches of an image")
    for ax in (patches, images):
        ax.set_xlabel(f"{metric} distance to the nearest patch")
        ax.set_xlim(0, highest)
        ax.xaxis.set_major_locator(MaxNLocator(6))
    patches.set_ylabel("share of the patches")
    images.set_ylabel("share of the images")
    _legend(figure, patches, len(distances))
    return figure


@rc_context(STYLE)
def patch_origins(counts: Mapping[str, NDArray[np.int64]], curves: Mapping[str, Table]) -> Figure:
    """How many patches the most used sources give, and how many sources so many patches have.

    Args:
        counts: name of each set of images -> patches of every source that occurs, from the most used.
        curves: the same names -> columns ``PATCHES_RAREFACTION``.
    """
    figure = Figure(figsize=(9.6, 3.9), dpi=160, layout="constrained")
    used, rare = figure.subplots(1, 2)
    for colour, (name, most) in zip(_colours(len(counts)), counts.items(), strict=True):
        shown = most[:SOURCES]
        used.plot(np.arange(1, len(shown) + 1), shown, ".-", color=colour, label=shortened(name))
        curve = curves[name]
        rare.plot(curve["patches"], curve["sources"], color=colour)
    longest = max(curves.values(), key=lambda curve: int(curve["patches"][-1]))
    rare.plot(longest["patches"], longest["null"], "--", color=GREY, lw=1.2, label="if every patch had a random source")
    rare.plot(longest["patches"], longest["patches"], ":", color="black", lw=0.9, label="if all sources were different")
    used.set_title(f"The {SOURCES} most used sources")
    used.set_xlabel("source, from the most used")
    used.set_ylabel("patches that are nearest to it")
    used.set_ylim(bottom=0)
    rare.set_title("Rarefaction: lower reuses more")
    rare.set_xlabel("patches")
    rare.set_ylabel("sources among them (expected)")
    rare.set_xlim(left=0)
    rare.set_ylim(bottom=0)
    rare.xaxis.set_major_locator(MaxNLocator(5))
    rare.legend(fontsize=8, loc="upper left")
    _legend(figure, used, len(counts))
    return figure


@rc_context(STYLE)
def statistics_beside(table: Table, held_out: str | None) -> Figure:
    """Every statistic of several sets of images, as a panel each, with what uniform sources would give.

    Args:
        table: columns ``PATCHES_COMPARE``.
        held_out: which of them is the baseline.
    """
    models = list(dict.fromkeys(table["model"].tolist()))
    panels = [name for name in PANELS if np.isfinite(table["value"][table["statistic"] == name]).any()]
    columns = 3
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(9.6, 0.6 + rows * (1.0 + 0.28 * len(models))), dpi=160, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax in axes[len(panels) :]:
        ax.remove()
    for number, (ax, name) in enumerate(zip(axes, panels, strict=False)):
        here = table["statistic"] == name
        values, null = table["value"][here], table["null"][here]
        y = np.arange(len(models))
        colours = [GREEN if model == held_out else BLUE for model in models]
        ax.barh(y, np.where(np.isfinite(values), values, 0), color=colours, height=0.65)
        known = np.isfinite(null)
        ax.plot(null[known], y[known], "|", color="black", ms=13, mew=1.6)
        low, high = table["low"][here], table["high"][here]
        bars = np.isfinite(low)
        if bars.any():
            error = (values[bars] - low[bars], high[bars] - values[bars])
            ax.errorbar(values[bars], y[bars], xerr=error, fmt="none", ecolor="#333333", capsize=2, elinewidth=1)
        ax.set_title(PANELS[name], fontsize=9)
        ax.set_yticks(y, [shortened(model) for model in models] if number % columns == 0 else [], fontsize=8)
        ax.invert_yaxis()
        ax.grid(axis="y", visible=False)
        ax.grid(axis="x", visible=True)
        ax.xaxis.set_major_locator(MaxNLocator(4))
        ax.ticklabel_format(axis="x", style="sci", scilimits=(-3, 5))
        ax.xaxis.get_offset_text().set_fontsize(8)
        ax.tick_params(axis="x", labelsize=8)
        ax.set_xlim(left=0)
    words = "black mark: if every patch had a random source" + ("; green: held-out images" if held_out else "")
    figure.supxlabel(words, fontsize=8.5)
    return figure


PANELS = {
    "mean_distance": "mean distance: 0 is a copy",
    "same_position": "same-position share",
    "top_contributor_share": "top contributor's share",
    "sources_per_image": "sources of an image",
    "entropy_bits": "entropy (bits): low reuses more",
    "collision": "collision: chance of same source",
    "unique_sources": "sources that occur",
    "gini": "Gini: 0 if used alike",
    "top_1_percent_share": "share of the top 1 %",
}
"""Statistic -> title of its panel."""


def shortened(name: str) -> str:
    """The end of a long name."""
    return name if len(name) <= LONGEST_NAME else f"…{name[1 - LONGEST_NAME :]}"


def _colours(count: int) -> Sequence[object]:
    if count <= len(COLOURS):
        return COLOURS[:count]
    return [colormaps["turbo"](0.05 + 0.9 * i / (count - 1)) for i in range(count)]


def _legend(figure: Figure, ax: Axes, count: int) -> None:
    if count > 1:
        figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=min(count, 4), fontsize=8.5)


@dataclass(frozen=True)
class PatchedImage:
    """One image and where its patches come from.

    Attributes:
        name: shown beside it.
        pixels: ``(H, W, 3)``.
        sources: ``(patches,)`` ids of the images of the nearest patches.
        places: ``(patches,)`` which patch of its source each is.
        distances: ``(patches,)``.
        pictures: source id -> pixels, of all of them.
        boxes: of the patches, row by row.
    """

    name: str
    pixels: Pixels
    sources: NDArray[np.int64]
    places: NDArray[np.int64]
    distances: NDArray[np.float64]
    pictures: dict[int, Pixels]
    boxes: Sequence[Box]

    def by_use(self) -> list[tuple[int, int]]:
        """Sources and how many patches each gives, from the most; equal ones by id."""
        ids, counts = np.unique(self.sources, return_counts=True)
        order = np.argsort(-counts, kind="stable")
        return list(zip(ids[order].tolist(), counts[order].tolist(), strict=True))

    def colours(self) -> dict[int, tuple[float, float, float]]:
        """A colour of its own for every source of two patches or more; grey for the others."""
        several = [source for source, count in self.by_use() if count > 1]
        hues = distinct_colours(len(several))
        return {source: SINGLE for source, _ in self.by_use()} | dict(zip(several, hues, strict=True))

    def reconstruction(self) -> Pixels:
        """The image with every patch replaced by the nearest one."""
        out = self.pixels.copy()
        for box, source, place in zip(self.boxes, self.sources.tolist(), self.places.tolist(), strict=True):
            top, left, bottom, right = box
            out[top:bottom, left:right] = resized(cut(self.pictures[source], self.boxes[place]), box)
        return out


def cut(pixels: Pixels, box: Box) -> Pixels:
    """A part of a picture."""
    top, left, bottom, right = box
    return pixels[top:bottom, left:right]


def resized(pixels: Pixels, box: Box) -> Pixels:
    """Nearest pixels at the size of a box; patches differ by a pixel where the grid does not divide the side."""
    rows = np.arange(box[2] - box[0]) * pixels.shape[0] // (box[2] - box[0])
    columns = np.arange(box[3] - box[1]) * pixels.shape[1] // (box[3] - box[1])
    out: Pixels = pixels[rows[:, None], columns]
    return out


def distinct_colours(count: int) -> list[tuple[float, float, float]]:
    """Colours that stay apart: evenly spaced hues, light and dark in turn."""
    return [
        colorsys.hls_to_rgb((0.58 + number / max(count, 1)) % 1, (0.42, 0.62)[number % 2], 0.85)
        for number in range(count)
    ]


@rc_context({**STYLE, "axes.grid": False})
def patch_maps(images: Sequence[PatchedImage], highest: float, title: str) -> Figure:
    """A row for each image: it, the nearest patches in its place, their sources, the top contributor, distances.

    In the map, patches of one source have its colour, in which the thumbnails on the right are framed; grey patches
    come from sources that give no other patch of this image. The top contributor shows, framed, which of its patches
    were taken.

    Args:
        images: at least one.
        highest: the distance at the end of the colour scale.
        title: above all of them.
    """
    figure = Figure(figsize=(11.2, 0.75 + 1.62 * len(images)), dpi=130)
    grid = figure.add_gridspec(
        len(images),
        len(MAP_PANELS) + 1 + LEGEND // 2,
        width_ratios=[1.0] * len(MAP_PANELS) + [0.06] + [0.62] * (LEGEND // 2),
        left=0.115,
        right=0.995,
        top=1 - 0.62 / (0.75 + 1.62 * len(images)),
        bottom=0.02,
        wspace=0.06,
        hspace=0.16,
    )
    highest = highest or 1.0
    scale = Normalize(0, highest)
    for row, image in enumerate(images):
        axes = [figure.add_subplot(grid[row, column]) for column in range(len(MAP_PANELS))]
        _row(axes, image, scale)
        axes[0].text(
            -0.06, 0.5, f"{drawable(image.name)}\nmean\n{image.distances.mean():.3g}", transform=axes[0].transAxes,
            ha="right", va="center", fontsize=8.5,
        )  # fmt: skip
        if row == 0:
            for ax, name in zip(axes, MAP_PANELS, strict=True):
                ax.set_title(name, fontsize=9, loc="center", fontweight="normal")
        _thumbnails(figure, grid, row, image)
    figure.suptitle(title, x=0.01, y=0.995, ha="left", va="top", fontsize=10.5, fontweight="bold")
    bar = figure.add_axes((0.80, 1 - 0.2 / (0.75 + 1.62 * len(images)), 0.18, 0.08 / (0.75 + 1.62 * len(images))))
    figure.colorbar(ScalarMappable(scale, colormaps["viridis"]), cax=bar, orientation="horizontal", ticks=[0, highest])
    bar.set_xticklabels(["0 (a copy)", f"{highest:.3g}"], fontsize=7.5)
    return figure


def _row(axes: Sequence[Axes], image: PatchedImage, scale: Normalize) -> None:
    colours = image.colours()
    top, _ = image.by_use()[0]
    side = round(len(image.boxes) ** 0.5)
    map_pixels = np.array([colours[source] for source in image.sources.tolist()]).reshape(side, side, 3)
    shown = (image.pixels, image.reconstruction(), map_pixels, image.pictures[top])
    for ax, pixels in zip(axes, shown, strict=False):
        ax.imshow(pixels, interpolation="nearest")
    axes[4].imshow(image.distances.reshape(side, side), cmap="viridis", norm=scale, interpolation="nearest")
    taken = set(image.places[image.sources == top].tolist())
    for place in taken:
        up, left, bottom, right = image.boxes[place]
        frame = Rectangle((left - 0.5, up - 0.5), right - left, bottom - up, fill=False, ec=colours[top], lw=1.6)
        axes[3].add_patch(frame)
    for ax in axes:
        _bare(ax)


def _thumbnails(figure: Figure, grid: object, row: int, image: PatchedImage) -> None:
    """The most used sources, framed in their colours, two columns."""
    colours, used = image.colours(), image.by_use()
    cells = grid[row, len(MAP_PANELS) + 1 :].subgridspec(2, LEGEND // 2, wspace=0.1, hspace=0.1)  # type: ignore[index]
    for number, (source, count) in enumerate(used[:LEGEND]):
        ax = figure.add_subplot(cells[number // 2, number % 2])
        ax.imshow(image.pictures[source], interpolation="nearest")
        _bare(ax)
        ax.spines[:].set(visible=True, color=colours[source], linewidth=2.4)
        ax.text(
            0.96, 0.05, f"{count}", transform=ax.transAxes, ha="right", va="bottom", fontsize=8,
            bbox={"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 1},
        )  # fmt: skip


def _bare(ax: Axes) -> None:
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(False)
