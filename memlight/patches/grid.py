"""A grid of patches over a picture."""

from typing import NamedTuple


class Box(NamedTuple):
    """Where a patch lies, in pixels; the lower and the right end are the first that are not in it."""

    top: int
    left: int
    bottom: int
    right: int


def patch_boxes(height: int, width: int, grid: int) -> list[Box]:
    """The ``grid ** 2`` patches of a picture, row by row.

    They do not overlap and leave nothing out; where the grid does not divide a side they differ by a pixel.

    Args:
        height: of the picture, in pixels.
        width: of the picture, in pixels.
        grid: patches on a side; at most as many as the shorter side has pixels.
    """
    rows, columns = ([i * side // grid for i in range(grid + 1)] for side in (height, width))
    return [
        Box(rows[row], columns[column], rows[row + 1], columns[column + 1])
        for row in range(grid)
        for column in range(grid)
    ]
