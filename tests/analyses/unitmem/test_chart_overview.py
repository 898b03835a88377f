"""Maps, histogram and scatter of all units show the tables' numbers, with the null and held-out images beside them."""

import numpy as np

from memlight.analyses.unitmem.chart_medians import unitmem_mean_and_median
from memlight.analyses.unitmem.chart_overview import WIDTH, unitmem_extremes, unitmem_heatmap, unitmem_overall
from memlight.analyses.unitmem.columns import UNITMEM_MEDIANS
from memlight.analyses.unitmem.tables_overall import extreme_shares
from memlight.storage.tables import table_of

LAYERS = np.repeat(["conv.in", "mid.attn.1"], [4, 16])
RNG = np.random.default_rng(0)
SCORES = {name: RNG.uniform(0.1, 0.9, 20) for name in ("scored", "null", "held_out")}
SCORES["scored"][1] = np.nan  # dead


def rows(image: object) -> np.ndarray:
    return np.ma.filled(image.get_array().astype(float), np.nan)  # type: ignore[attr-defined]


def test_the_heatmap_orders_units_and_shows_dead_ones_last() -> None:
    figure = unitmem_heatmap(LAYERS, SCORES)
    for ax, scores in zip(figure.axes, SCORES.values(), strict=False):
        first, second = rows(ax.images[0])[:, :: WIDTH // 16]
        np.testing.assert_array_equal(second, -np.sort(-scores[4:]))
        np.testing.assert_array_equal(first[::4], -np.sort(-scores[:4]))
        assert f"mean {np.nanmean(scores):.3f}" in ax.get_title(loc="left")
    assert np.isnan(rows(figure.axes[0].images[0])[0, -1])


def test_the_extremes_are_those_of_all_layers_together() -> None:
    figure = unitmem_extremes(LAYERS, SCORES)
    for ax, scores in zip(figure.axes, SCORES.values(), strict=False):
        image = rows(ax.images[0])
        shown = {value for row in image for value in row.tolist() if value <= 1}
        alive = sorted(scores[np.isfinite(scores)].tolist())
        tenth = int(0.1 * len(alive))
        assert shown == {*alive[:tenth], *alive[-tenth:]}
        assert f"top from {alive[-tenth]:.3f}, bottom to {alive[tenth - 1]:.3f}" in ax.get_title(loc="left")
    alone = unitmem_extremes(LAYERS, {"scored": SCORES["scored"]})
    assert len([ax for ax in alone.axes if ax.images]) == 1


def test_the_histogram_counts_living_units_and_names_the_means() -> None:
    extremes = extreme_shares(LAYERS, SCORES)
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
        "layer": LAYERS,
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
