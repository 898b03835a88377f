"""Charts of the images that drive units show the tables' numbers."""

import numpy as np
import pytest

from memlight.analyses.images.chart import image_descriptors, image_ownership
from memlight.analyses.images.columns import IMAGES_DESCRIBED
from tests.image_tables import LAYERS, tables


@pytest.mark.parametrize("held_out", [True, False])
def test_ownership_is_drawn_beside_chance(held_out: bool) -> None:
    made = tables(held_out)
    figure = image_ownership(made["curve"], made["ownership"])
    concentration, by_layer = figure.axes
    drawn = {line.get_label(): line for line in concentration.lines}
    assert ("held-out images" in drawn) == held_out
    np.testing.assert_allclose(drawn["images scored"].get_ydata(), 100 * made["curve"]["units"])
    np.testing.assert_allclose(drawn["images scored"].get_xdata(), 100 * made["curve"]["share"])
    points = [line for line in by_layer.lines if line.get_marker() in ("o", "^")]
    assert len(points) == 1 + held_out
    np.testing.assert_allclose(points[0].get_ydata(), [0.094 / 0.251] * len(LAYERS))
    assert [label.get_text() for label in by_layer.get_xticklabels()] == list(LAYERS)


@pytest.mark.parametrize("held_out", [True, False])
def test_descriptors_found_are_filled(held_out: bool) -> None:
    made = tables(held_out)
    correlation, matched = image_descriptors(made["descriptors"], made["matched"]).axes
    filled = {line.get_label(): line for line in correlation.lines}["scored, q < .05"]
    assert filled.get_xdata().tolist() == [made["descriptors"]["rho"][3]]
    assert {line.get_label(): line for line in matched.lines}["scored, q < .05"].get_xdata().tolist() == [
        made["matched"]["difference"][3]
    ]
    assert [bar.get_x() for bar in correlation.patches] == [-0.09] * len(IMAGES_DESCRIBED)
    assert any(line.get_label() == "held-out images" for line in matched.lines) == held_out
    assert [label.get_text() for label in correlation.get_yticklabels()][3] == "bytes per pixel"
