"""Grids of images, drawn pixel by pixel: a 32-pixel image is enlarged by a whole number, never smeared."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from matplotlib import colormaps, font_manager
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike, NDArray
from PIL import Image

DPI = 144
CELL = 96
"""The side of a picture in pixels: small images are enlarged to at least 2/3 of it, large ones reduced to it."""

GAP, LINE, TITLE = 8, 16, 44
BAR = 4
"""The height of a bar below a picture, pixels."""

Picture = NDArray[np.uint8]
"""An image ``uint8 (H, W, 3)``."""


def channels_last(images_N3HW: ArrayLike) -> NDArray[np.uint8]:
    """Images as they are drawn, ``uint8 (N, H, W, 3)``.

    Args:
        images_N3HW: images as a data module gives them, ``uint8 (N, 3, H, W)`` on the CPU.
    """
    return np.ascontiguousarray(np.moveaxis(np.asarray(images_N3HW), 1, -1))


def image_grid(
    images: NDArray[np.uint8],
    captions: Sequence[str],
    *,
    title: str = "",
    columns: int = 10,
    shades: NDArray[np.floating] | None = None,
) -> Figure:
    """Images in reading order, each with its caption below.

    Args:
        images: ``uint8 (N, H, W, 3)``, N >= 1.
        captions: one per image; a line break makes another line.
        title: above all of them.
        columns: images per row.
        shades: ``(N,)`` from 0 to 1: a bar below each image is as dark; none where it is NaN. None for no bars.

    Raises:
        ValueError: there is not one caption per image.
    """
    if len(captions) != len(images):
        raise ValueError(f"{len(images)} images but {len(captions)} captions")
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    cells = [[i for i in range(row * columns, (row + 1) * columns) if i < len(images)] for row in range(rows)]
    return _draw(
        [[images[i] for i in row] for row in cells],
        [[captions[i] for i in row] for row in cells],
        title,
        shades=None if shades is None else [[float(shades[i]) for i in row] for row in cells],
    )


def rows_grid(
    images: Sequence[Sequence[Picture | None]] | NDArray[np.uint8],
    row_labels: Sequence[str],
    captions: Sequence[Sequence[str]],
    *,
    title: str = "",
) -> Figure:
    """One row of images per unit, its name on the left.

    Args:
        images: R rows of images ``uint8 (H, W, 3)``. A row may be shorter than others, which leaves white at its end;
            None leaves a white place, but not the first of the first row.
        row_labels: R names; a line break makes two lines.
        captions: R sequences, with one caption below each image.
        title: above all of them.

    Raises:
        ValueError: labels or captions do not fit the images.
    """
    sizes = [len(row) for row in images]
    if len(row_labels) != len(images) or [len(row) for row in captions] != sizes:
        raise ValueError(f"rows of {sizes} images, {len(row_labels)} labels, {[len(r) for r in captions]} captions")
    return _draw([list(row) for row in images], captions, title, row_labels)


def drawable(name: str) -> str:
    """The name of a file or class as text of a figure: bytes that are not UTF-8 as escapes, dollars as dollars.

    A letter that the font of figures does not have is an empty box.
    """
    text = name.encode(errors="backslashreplace").decode()
    return "".join(c if c == "\n" or ord(c) in _letters() else "\N{WHITE SQUARE}" for c in text).replace("$", r"\$")


@cache
def _letters() -> frozenset[int]:
    font = font_manager.get_font(font_manager.findfont(font_manager.FontProperties()))
    return frozenset(font.get_charmap())


def _draw(
    rows: Sequence[Sequence[Picture | None]],
    captions: Sequence[Sequence[str]],
    title: str,
    row_labels: Sequence[str] = (),
    shades: Sequence[Sequence[float]] | None = None,
) -> Figure:
    rows = [[None if image is None else _fit(image) for image in row] for row in rows]
    first = rows[0][0]
    assert first is not None
    cell_height, cell_width = first.shape[:2]
    lines = max(2, *(caption.count("\n") + 1 for row in captions for caption in row))
    pitch_x, pitch_y = max(cell_width, CELL) + GAP, cell_height + GAP + 2 + LINE * lines
    left = GAP + (max(len(line) for label in row_labels for line in label.split("\n")) * 11 if row_labels else 0)
    top = TITLE if title else GAP
    width = left + pitch_x * max(len(row) for row in rows)
    height = top + pitch_y * len(rows)
    width = max(width, len(title) * 14 + 2 * GAP)
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)

    def write(x: float, y: float, text: str, size: float, **style: Any) -> None:
        figure.text(x / width, 1 - y / height, drawable(text), fontsize=size, **style)

    if title:
        write(GAP, GAP, title, 10, va="top", weight="bold")
    for r, row in enumerate(rows):
        y = top + r * pitch_y
        if row_labels:
            write(GAP, y + cell_height / 2, row_labels[r], 8, va="center")
        for c, image in enumerate(row):
            if image is None:
                continue
            x = left + c * pitch_x
            figure.figimage(image, x, height - y - cell_height)
            below = y + cell_height + 3
            if shades is not None and np.isfinite(shades[r][c]):
                corner, size = (x / width, 1 - (y + cell_height + BAR) / height), (cell_width / width, BAR / height)
                figure.add_artist(Rectangle(corner, *size, color=colormaps["Blues"](0.15 + 0.85 * shades[r][c])))
                below += BAR
            write(x + cell_width / 2, below, captions[r][c], 6.5, va="top", ha="center", color="#444444")
    return figure


def _fit(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    side = max(image.shape[:2])
    if side <= CELL:
        factor = max(1, round(CELL / side))
        return image.repeat(factor, axis=0).repeat(factor, axis=1)
    height, width = (max(1, round(n * CELL / side)) for n in image.shape[:2])
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS))
