"""Grids of images: every pixel of a small image is a block of equal pixels on the page."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from memlight.display.pictures import CELL, channels_last, drawable, image_grid, rows_grid


def pixels(figure: Figure) -> NDArray[np.uint8]:
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return np.asarray(Image.open(file).convert("RGB"))


def find(page: NDArray[np.uint8], block: NDArray[np.uint8]) -> tuple[int, int]:
    """Row and column of a block's one exact copy on the page."""
    height, width = block.shape[:2]
    windows = np.lib.stride_tricks.sliding_window_view(page[..., 0], (height, width))
    corners = np.argwhere((windows[:, :, 0, :] == block[0, :, 0]).all(-1))
    found = [(int(y), int(x)) for y, x in corners if np.array_equal(page[y : y + height, x : x + width], block)]
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize(("side", "factor"), [(8, 12), (28, 3), (32, 3), (64, 2), (96, 1)])
def test_small_images_are_enlarged_by_whole_numbers_in_reading_order(side: int, factor: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, side, side, 3), dtype=np.uint8)
    page = pixels(image_grid(images, [f"id {i}" for i in range(5)], title="Most memorised", columns=3))
    places = [find(page, image.repeat(factor, 0).repeat(factor, 1)) for image in images]
    assert places == sorted(places)
    assert len({y for y, _ in places[:3]}) == 1 and places[3][0] > places[0][0]
    assert places[3][1] == places[0][1]


def test_large_images_are_reduced_in_proportion() -> None:
    figure = image_grid(np.zeros((1, 300, 200, 3), np.uint8), ["id 0"])
    black = np.argwhere(pixels(figure).sum(-1) == 0)
    assert tuple(np.ptp(black, axis=0) + 1) == (CELL, CELL * 2 // 3)


def test_rows_keep_units_apart_and_names_beside_them() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 32, 32, 3), dtype=np.uint8)
    figure = rows_grid(images, ["layer8\nunit 3", "layer8\nunit 41"], [["a", "b", "c"]] * 2)
    page = pixels(figure)
    places = np.array([[find(page, image.repeat(3, 0).repeat(3, 1)) for image in row] for row in images])
    assert (np.ptp(places[:, :, 0], axis=1) == 0).all()
    names = [text for text in figure.texts if "unit" in text.get_text()]
    right = max(text.get_window_extent().x1 for text in names)
    assert right < places[:, :, 1].min()


def test_short_rows_and_gaps_stay_white() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    white = np.full_like(images[0], 255)
    ragged = rows_grid([[images[0], None, images[1]], [images[2]]], ["a", "b"], [["1", "", "2"], ["3"]])
    filled = [[images[0], white, images[1]], [images[2], white, white]]
    whole = rows_grid(filled, ["a", "b"], [["1", "", "2"], ["3", "", ""]])
    np.testing.assert_array_equal(pixels(ragged), pixels(whole))


def test_images_are_drawn_with_their_channels_last() -> None:
    images = torch.arange(2 * 3 * 4 * 5, dtype=torch.uint8).reshape(2, 3, 4, 5)
    drawn = channels_last(images)
    assert drawn.shape == (2, 4, 5, 3) and drawn.flags.c_contiguous
    np.testing.assert_array_equal(drawn, images.permute(0, 2, 3, 1).numpy())


def test_captions_that_do_not_fit_are_refused() -> None:
    images = np.zeros((2, 8, 8, 3), np.uint8)
    with pytest.raises(ValueError, match="2 images but 1 captions"):
        image_grid(images, ["one"])
    with pytest.raises(ValueError, match="labels"):
        rows_grid(images[None], ["a", "b"], [["1", "2"]])


def test_any_name_can_be_drawn(tmp_path: Path) -> None:
    """Dollars are no formula, and bytes that are not UTF-8 are escapes."""
    name = os.fsdecode(b"$\xff_{$")
    image_grid(np.zeros((1, 8, 8, 3), np.uint8), [name], title=name).savefig(tmp_path / "a.png")
    assert drawable(name) == r"\$\udcff_{\$"


def test_names_in_any_script_are_drawn_without_a_warning() -> None:
    figure = image_grid(np.zeros((1, 8, 8, 3), np.uint8), ["日本 $x$ ü.png\n7"])
    assert pixels(figure).min() == 0
    assert [text.get_text() for text in figure.texts] == [r"□□ \$x\$ ü.png" + "\n7"]


def test_every_line_of_a_caption_has_its_room() -> None:
    images = np.zeros((2, 8, 8, 3), np.uint8)
    heights = [len(pixels(image_grid(images, ["a\n" * lines + "b", "c"]))) for lines in (0, 1, 2, 3)]
    assert heights[0] == heights[1] < heights[2] < heights[3] and heights[3] - heights[2] == heights[2] - heights[1]


def test_bars_below_pictures_are_darker_for_higher_numbers() -> None:
    images = np.zeros((3, 96, 96, 3), np.uint8)
    figure = image_grid(images, ["a", "b", "c"], shades=np.array([0.1, 0.9, np.nan]))
    pale, dark = (np.mean(artist.get_facecolor()[:3]) for artist in figure.artists)
    assert pale > dark and len(figure.artists) == 2
