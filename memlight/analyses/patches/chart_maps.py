"""Pictures of single images and where their patches come from: reconstruction, map of sources, distances. No torch."""

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from memlight.display.figures import STYLE

Pixels = NDArray[np.uint8]

SINGLE = (0.72, 0.72, 0.72)
"""Colour of a source that gives one patch of the image alone."""

LEGEND = 4
"""Thumbnails of sources beside an image."""

PANELS = ("image", "nearest patches", "map of sources", "top contributor", "distance")

Box = tuple[int, int, int, int]
"""Top, left, bottom and right of a patch, in pixels."""


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
        len(PANELS) + 1 + LEGEND // 2,
        width_ratios=[1.0] * len(PANELS) + [0.06] + [0.62] * (LEGEND // 2),
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
        axes = [figure.add_subplot(grid[row, column]) for column in range(len(PANELS))]
        _row(axes, image, scale)
        axes[0].text(
            -0.06, 0.5, f"{image.name}\nmean\n{image.distances.mean():.3g}", transform=axes[0].transAxes,
            ha="right", va="center", fontsize=8.5,
        )  # fmt: skip
        if row == 0:
            for ax, name in zip(axes, PANELS, strict=True):
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
    cells = grid[row, len(PANELS) + 1 :].subgridspec(2, LEGEND // 2, wspace=0.1, hspace=0.1)  # type: ignore[index]
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
