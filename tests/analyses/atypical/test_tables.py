"""Correlations beyond the placebo: against scipy, silent where only the features are to blame, and found if planted."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import spearmanr

from memlight.analyses.atypical.chart import atypical_by_depth, atypical_fifths
from memlight.analyses.atypical.section import atypical_words
from memlight.analyses.atypical.tables import (
    Group,
    atypical_table,
    fifths_table,
    groups_table,
    own_parts,
    placebo_parts,
)
from memlight.stats import critical_value
from memlight.stats.families import relabelled_t
from memlight.storage.tables import Table

LAYERS = ["layer1", "layer2"]
MEASURES = ["centroid", "bytes"]
OWN = ("candidate", "independent")


def groups(
    images: int = 120, *, memory: float = 0.0, by_bytes: float = 0.0, circular: float = 1.0, seed: int = 0
) -> dict[str, Group]:
    """Four groups of images under two encoders that are unlike in every image, memory or not.

    Args:
        images: of each group; half as many external ones.
        memory: what training on an image adds to its score.
        by_bytes: how much more it adds where an image has many bytes.
        circular: how far the distance to the class, in an encoder's features, goes with its alignment.
        seed: of all of it.
    """
    generator, found = np.random.default_rng(seed), {}
    for number, split in enumerate((*OWN, "external", "shared")):
        count = images // 2 if split == "external" else images
        size = generator.standard_normal(count)
        align = generator.standard_normal((2, count))  # of f and g
        distance = circular * align + 0.5 * generator.standard_normal((2, count)) + 0.3 * size
        seen = {0: 1, 1: -1}.get(number, 0)
        score = align[1] - align[0] + seen * (memory + by_bytes * size)
        layers = score[:, None] + 0.2 * generator.standard_normal((count, 2))
        layers[:, 0] -= seen * (memory + by_bytes * size)
        found[split] = Group(
            np.arange(count), layers, np.stack([distance[1], size], axis=1), np.stack([distance[0], size], axis=1)
        )
    return found


def row_of(table: Table, measure: str, layer: str, placebo: str = "external") -> dict[str, float]:
    rows = (table["measure"] == measure) & (table["layer"] == layer) & (table["placebo"] == placebo)
    (row,) = np.flatnonzero(rows)
    return {name: values[row] for name, values in table.items()}


def flat(made: dict[str, Group], placebo: str) -> list[NDArray[np.float64]]:
    """Pseudo-values of own and placebo images, a row for each image."""
    parts = own_parts(made), placebo_parts(made[placebo])
    return [part.transpose(1, 0, 2, 3).reshape(part.shape[1], -1) for part in parts]


def named(table: Table) -> NDArray[np.bool_]:
    both = [table[f"{name}_difference_p_adjusted"] for name in ("rho", "fifths")]
    result: NDArray[np.bool_] = np.minimum(*both) <= 0.05
    return result


def test_a_row_is_what_scipy_gives_for_each_group() -> None:
    made = groups(memory=0.5, by_bytes=0.5)
    table = atypical_table(made, LAYERS, MEASURES)
    for column, measure in enumerate(MEASURES):
        for place, layer in enumerate(LAYERS):
            row = row_of(table, measure, layer)
            c, i, e = (made[split] for split in (*OWN, "external"))
            of_c = spearmanr(c.scores[:, place], c.for_f[:, column]).statistic
            of_i = spearmanr(-i.scores[:, place], i.for_g[:, column]).statistic
            of_e = [
                spearmanr(sign * e.scores[:, place], values[:, column]).statistic
                for sign, values in ((1, e.for_f), (-1, e.for_g))
            ]
            assert row["rho_own"] == pytest.approx((of_c + of_i) / 2)
            assert row["rho_placebo"] == pytest.approx(sum(of_e) / 2)
            assert row["rho_difference"] == pytest.approx((of_c + of_i) / 2 - sum(of_e) / 2)
            assert row["n_own"] == 240 and row["n_placebo"] == 60
            assert row["rho_difference_simultaneous_low"] < row["rho_difference_low"] < row["rho_difference"]
    assert len(table["layer"]) == 2 * len(LAYERS) * len(MEASURES)


def test_features_that_go_with_the_score_without_memory_are_taken_off_by_the_placebo() -> None:
    table = atypical_table(groups(250, memory=1.0), LAYERS, MEASURES)
    row = row_of(table, "centroid", "layer2")
    assert row["rho_own"] > 0.4 and row["rho_placebo"] > 0.4
    assert not named(table).any() and "In none of 2 layers" in atypical_words(table)


def test_a_measure_that_is_the_same_for_both_members_has_a_placebo_of_0() -> None:
    parts = placebo_parts(groups()["external"])
    assert (parts[..., 1] == 0).all() and np.abs(parts[..., 0]).min() > 0


def test_planted_memory_of_atypical_images_is_found_where_it_is() -> None:
    table = atypical_table(groups(250, memory=0.2, by_bytes=0.8), LAYERS, MEASURES)
    row = row_of(table, "bytes", "layer2")
    assert row["rho_difference_p_adjusted"] < 0.001 and row["fifths_difference"] > 1
    assert not named({name: values[table["layer"] == "layer1"] for name, values in table.items()}).any()
    words = atypical_words(table)
    assert "atypical by compressed bytes are memorised more in layer2: rho 0." in words
    assert "layer1" not in words
    turned = {name: group._replace(scores=-group.scores) for name, group in groups(250, by_bytes=0.8).items()}
    assert "memorised less in layer2" in atypical_words(atypical_table(turned, LAYERS, MEASURES))


def test_where_nothing_is_memorised_anything_is_named_in_at_most_7_of_100_draws() -> None:
    """Each draw deals own and placebo images anew; both encoders differ, and features go with the score everywhere."""
    made = groups(100, memory=0.5, seed=3)
    parts = [
        part.transpose(1, 0, 2, 3).reshape(part.shape[1], -1)
        for part in (own_parts(made), placebo_parts(made["shared"]))
    ]
    critical = critical_value(relabelled_t(*parts, 2999, seed=0))
    draws = relabelled_t(*parts, 1000, seed=1)
    assert 0.03 <= (np.abs(draws).max(1) > critical).mean() <= 0.07
    fresh = 0
    for seed in range(60):
        made = groups(60, memory=0.5, seed=100 + seed)
        both = flat(made, "external")
        null = relabelled_t(*both, 299, seed=0)
        means = both[0].mean(0) - both[1].mean(0)
        errors = np.sqrt(sum(part.var(0, ddof=1) / len(part) for part in both))
        fresh += bool((np.abs(means / errors) > critical_value(null)).any())
    assert fresh <= 8, "60 experiments, 5 % of which are 3"


def test_a_score_that_external_images_lack_is_compared_among_the_two_groups() -> None:
    made = groups(200, by_bytes=0.8)
    external = made["external"]
    without = [np.column_stack([values[:, 0], np.full(len(values), np.nan)]) for values in external[2:]]
    made["external"] = external._replace(for_f=without[0], for_g=without[1])
    table = atypical_table(made, LAYERS, MEASURES)
    row = row_of(table, "bytes", "layer2")
    assert row["rho_placebo"] == 0 and row["rho_difference_p_adjusted"] < 0.01
    by_group = groups_table(made, LAYERS, MEASURES)
    assert not ((by_group["group"] == "external") & (by_group["measure"] == "bytes")).any()
    assert (fifths_table(made, LAYERS, MEASURES)["external"][5:] == 0).all()


def test_every_group_by_itself() -> None:
    made = groups(by_bytes=0.5)
    table = groups_table(made, LAYERS, MEASURES)
    assert len(table["n"]) == 6 * len(LAYERS) * len(MEASURES)  # the placebos beside both members' scores
    (row,) = np.flatnonzero(
        (table["group"] == "independent") & (table["measure"] == "bytes") & (table["layer"] == "layer2")
    )
    group = made["independent"]
    order = np.argsort(group.for_g[:, 1])
    assert table["member"][row] == "g" and table["n"][row] == 120
    assert table["rho"][row] == pytest.approx(spearmanr(-group.scores[:, 1], group.for_g[:, 1]).statistic)
    assert table["top"][row] == pytest.approx(-group.scores[order[-24:], 1].mean())
    assert table["bottom"][row] == pytest.approx(-group.scores[order[:24], 1].mean())
    assert table["rho_low"][row] < table["rho"][row] < table["rho_high"][row]


def test_charts_show_the_tables_numbers() -> None:
    made = groups(by_bytes=0.5)
    table, fifths = atypical_table(made, LAYERS, MEASURES), fifths_table(made, LAYERS, MEASURES)
    axes = atypical_by_depth(table).axes
    assert [ax.get_title(loc="left") for ax in axes] == ["distance to the class\n(other member)", "compressed bytes"]
    rows = (table["measure"] == "bytes") & (table["placebo"] == "external")
    np.testing.assert_array_equal(axes[1].lines[0].get_ydata(), table["rho_difference"][rows])
    axes = atypical_fifths(fifths).axes
    own = next(line for line in axes[1].lines if len(line.get_ydata()) == 5)
    np.testing.assert_array_equal(own.get_ydata(), fifths["own"][5:])
    assert fifths["fifth"].tolist() == [1, 2, 3, 4, 5] * 2 and set(fifths["layer"].tolist()) == {"layer2"}
    del made["shared"]
    assert np.isnan(fifths_table(made, LAYERS, MEASURES)["shared"]).all()
    assert set(atypical_table(made, LAYERS, MEASURES)["placebo"].tolist()) == {"external"}
