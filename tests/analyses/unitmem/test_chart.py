"""Charts of UnitMem's reliability show the numbers of the tables."""

import numpy as np

from memlight.analyses.unitmem.chart import (
    CURVES,
    WIDTH,
    unitmem_excess,
    unitmem_extremes,
    unitmem_heatmap,
    unitmem_mean_and_median,
    unitmem_overall,
    unitmem_reliability,
)
from memlight.analyses.unitmem.columns import UNITMEM_MEDIANS
from memlight.analyses.unitmem.tables import extreme_shares
from memlight.storage.tables import table_of

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
    units["p95_calibrated"] = units["depth"] < 5
    marked = unitmem_excess(null, units).axes[1]
    for line, rows_of in zip(
        marked.lines[1:3], (above & (units["depth"] < 5), above & (units["depth"] > 4)), strict=True
    ):
        np.testing.assert_array_equal(line.get_ydata(), units["excess"][rows_of])
    assert marked.get_title(loc="left").endswith("where calibrated")
    alone = unitmem_excess({**null, **{name: np.full(9, np.nan) for name in columns[3:]}}, units)
    assert len(alone.axes[0].containers) == 1


LAYER_OF = np.repeat(["conv.in", "mid.attn.1"], [4, 16])
RNG = np.random.default_rng(0)
SCORES = {name: RNG.uniform(0.1, 0.9, 20) for name in ("scored", "null", "held_out")}
SCORES["scored"][1] = np.nan  # dead


def rows(image: object) -> np.ndarray:
    return np.ma.filled(image.get_array().astype(float), np.nan)  # type: ignore[attr-defined]


def test_the_heatmap_orders_units_and_shows_dead_ones_last() -> None:
    figure = unitmem_heatmap(LAYER_OF, SCORES)
    for ax, scores in zip(figure.axes, SCORES.values(), strict=False):
        first, second = rows(ax.images[0])[:, :: WIDTH // 16]
        np.testing.assert_array_equal(second, -np.sort(-scores[4:]))
        np.testing.assert_array_equal(first[::4], -np.sort(-scores[:4]))
        assert f"mean {np.nanmean(scores):.3f}" in ax.get_title(loc="left")
    assert np.isnan(rows(figure.axes[0].images[0])[0, -1])


def test_the_extremes_are_those_of_all_layers_together() -> None:
    figure = unitmem_extremes(LAYER_OF, SCORES)
    for ax, scores in zip(figure.axes, SCORES.values(), strict=False):
        image = rows(ax.images[0])
        shown = {value for row in image for value in row.tolist() if value <= 1}
        alive = sorted(scores[np.isfinite(scores)].tolist())
        tenth = int(0.1 * len(alive))
        assert shown == {*alive[:tenth], *alive[-tenth:]}
        assert f"top from {alive[-tenth]:.3f}, bottom to {alive[tenth - 1]:.3f}" in ax.get_title(loc="left")
    alone = unitmem_extremes(LAYER_OF, {"scored": SCORES["scored"]})
    assert len([ax for ax in alone.axes if ax.images]) == 1


def test_the_histogram_counts_living_units_and_names_the_means() -> None:
    extremes = extreme_shares(LAYER_OF, SCORES)
    figure = unitmem_overall(SCORES, extremes)
    counts, shares = figure.axes
    words = [text.get_text() for text in counts.get_legend().get_texts()]
    for name, word in zip(SCORES, ("images scored", "exchangeable images (null)", "held-out images"), strict=True):
        assert f"{word}: mean {np.nanmean(SCORES[name]):.3f}" in words
        line = next(line for line in shares.lines if line.get_label() == word)
        np.testing.assert_array_equal(line.get_ydata(), extremes["top"][extremes["scores"] == name])
    filled = counts.patches[0].get_xy()
    assert (
        filled[:, 1].max()
        == np.histogram(SCORES["scored"][~np.isnan(SCORES["scored"])], np.linspace(0, 1, 51))[0].max()
    )


def test_both_forms_and_their_correlation_by_layer() -> None:
    dead = np.isnan(SCORES["scored"])
    table = {
        "layer": LAYER_OF,
        "dead": dead,
        "unitmem": np.nan_to_num(SCORES["scored"]),
        "unitmem_median": SCORES["null"],
    }
    numbers = [
        (layer, kind, 16, *RNG.random(6))
        for kind in ("scored", "held_out")
        for layer in ("conv.in", "mid.attn.1", "all")
    ]
    medians = table_of(UNITMEM_MEDIANS, numbers)
    scatter, correlations = unitmem_mean_and_median(table, medians).axes
    assert [len(line.get_xdata()) for line in scatter.lines[:2]] == [3, 16]
    np.testing.assert_array_equal(scatter.lines[1].get_ydata(), SCORES["null"][4:])
    np.testing.assert_array_equal(correlations.lines[0].get_ydata(), medians["spearman"][:2])
    np.testing.assert_array_equal(correlations.lines[3].get_ydata(), medians["pearson"][3:5])
