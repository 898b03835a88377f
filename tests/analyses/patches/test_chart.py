"""Pictures of single images: what is drawn for each patch."""

import numpy as np
import pytest

from memlight.analyses.patches.chart import SINGLE, PatchedImage, distinct_colours, patch_maps, resized

BOXES = [(0, 0, 2, 2), (0, 2, 2, 5), (2, 0, 5, 2), (2, 2, 5, 5)]


@pytest.fixture
def image() -> PatchedImage:
    """Patches 0 and 3 come from source 7, the others from one of their own; the grid does not divide 5 pixels."""
    rng = np.random.default_rng(0)
    pictures = {source: rng.integers(0, 256, (5, 5, 3), dtype=np.uint8) for source in (2, 7, 9)}
    sources, places = np.array([7, 2, 9, 7]), np.array([0, 1, 3, 0])
    return PatchedImage("a", np.zeros((5, 5, 3), np.uint8), sources, places, np.arange(4.0), pictures, BOXES)


def test_the_reconstruction_holds_the_nearest_patches(image: PatchedImage) -> None:
    out = image.reconstruction()
    assert np.array_equal(out[:2, :2], image.pictures[7][:2, :2])
    assert np.array_equal(out[:2, 2:], image.pictures[2][:2, 2:])
    enlarged = image.pictures[7][:2, :2][np.array([0, 0, 1])[:, None], np.array([0, 0, 1])]
    assert np.array_equal(out[2:, 2:], enlarged)
    assert np.array_equal(out[2:, :2], resized(image.pictures[9][2:, 2:], (0, 0, 3, 2)))


def test_sources_of_several_patches_have_colours_of_their_own(image: PatchedImage) -> None:
    assert image.by_use() == [(7, 2), (2, 1), (9, 1)]
    colours = image.colours()
    assert colours[2] == colours[9] == SINGLE != colours[7]
    for count in (2, 8, 30):
        hues = np.array(distinct_colours(count))
        apart = np.abs(hues[:, None] - hues).max(2)[~np.eye(count, dtype=bool)]
        assert apart.min() > 0.05


def test_the_figure_has_a_row_for_every_image(image: PatchedImage) -> None:
    figure = patch_maps([image, image], 3.0, "title")
    assert len(figure.axes) == 2 * (5 + 3) + 1
    assert figure.get_suptitle() == "title"
    frames = [len(ax.patches) for ax in figure.axes]
    assert sum(frames) == 2, "the top contributor gives one of its places, twice"
