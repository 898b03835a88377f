"""Charts of UnitMem's reliability show the numbers of the tables."""

import numpy as np

from memlight.analyses.unitmem.chart import CURVES, unitmem_excess, unitmem_reliability

LAYERS = np.array([f"layer{n}" for n in range(9)])
HALVES = {"layer": LAYERS, "split_half": np.linspace(-0.2, 0.9, 9)}
SIZES = (10, 100, 500)
CURVE = {
    "layer": np.repeat(LAYERS, len(SIZES)),
    "n": np.tile(SIZES, len(LAYERS)),
    "mean": np.linspace(0.1, 0.7, len(LAYERS) * len(SIZES)),
}


def test_reliability_of_every_layer_and_curves_of_a_few() -> None:
    halves, growth = unitmem_reliability(HALVES, CURVE).axes
    np.testing.assert_array_equal(halves.lines[0].get_ydata(), HALVES["split_half"])
    assert halves.get_ylim()[0] < -0.2
    assert len(growth.lines) == CURVES
    for line in growth.lines:
        rows = CURVE["layer"] == line.get_label()
        np.testing.assert_array_equal(line.get_xdata(), SIZES)
        np.testing.assert_array_equal(line.get_ydata(), CURVE["mean"][rows])
    assert [line.get_label() for line in growth.lines][:: CURVES - 1] == ["layer0", "layer8"]


def test_one_encoder_has_no_curve_and_a_constant_layer_no_correlation() -> None:
    (halves,) = unitmem_reliability({**HALVES, "split_half": np.full(9, np.nan)}).axes
    assert halves.get_ylim() == (-0.02, 1.02)


def test_excess_of_layers_beside_held_out_images_and_of_units() -> None:
    rng = np.random.default_rng(0)
    middle = np.linspace(-0.01, 0.03, 9)
    columns = ("excess", "excess_low", "excess_high", "held_out_excess", "held_out_low", "held_out_high")
    null = {"layer": LAYERS, **dict(zip(columns, (middle, middle - 0.01, middle + 0.01) * 2, strict=True))}
    units = {"depth": np.repeat(np.arange(9), 20), "unitmem": rng.random(180), "null_p95": rng.random(180)}
    units["excess"] = units["unitmem"] - 0.5
    layers, every = unitmem_excess(null, units).axes
    scored, held_out = (container.lines[0] for container in layers.containers)
    np.testing.assert_allclose(scored.get_ydata(), middle)
    np.testing.assert_allclose(held_out.get_ydata(), middle)
    above = units["unitmem"] > units["null_p95"]
    np.testing.assert_array_equal(every.lines[0].get_ydata(), units["excess"][~above])
    np.testing.assert_array_equal(every.lines[1].get_ydata(), units["excess"][above])
    alone = unitmem_excess({**null, **{name: np.full(9, np.nan) for name in columns[3:]}}, units)
    assert len(alone.axes[0].containers) == 1
