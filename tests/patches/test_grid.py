import numpy as np
import pytest

from memlight.patches.grid import patch_boxes


@pytest.mark.parametrize(("height", "width", "grid"), [(32, 32, 4), (7, 11, 3), (5, 5, 5), (9, 4, 1)])
def test_every_pixel_lies_in_one_patch(height: int, width: int, grid: int) -> None:
    boxes = patch_boxes(height, width, grid)
    covered = np.zeros((height, width), dtype=int)
    for box in boxes:
        assert box.bottom > box.top and box.right > box.left
        covered[box.top : box.bottom, box.left : box.right] += 1
    assert len(boxes) == grid**2
    assert (covered == 1).all()


def test_patches_are_numbered_row_by_row() -> None:
    assert [(box.top, box.left) for box in patch_boxes(8, 8, 2)] == [(0, 0), (0, 4), (4, 0), (4, 4)]
