"""Tables of the highest and lowest units against plain loops, and Welch's test against the published numbers."""

import statistics

import numpy as np
import pytest
import torch
from scipy import stats

from memlight.analyses.unitmem.columns import UNITMEM_EXTREMES, UNITMEM_HIGHEST, UNITMEM_MEDIANS, UNITMEM_TESTS
from memlight.analyses.unitmem.tables import excess_table, unitmem_table
from memlight.analyses.unitmem.tables_overall import (
    ALL,
    extreme_shares,
    extreme_tests,
    highest_units,
    median_agreement,
    unit_scores,
)
from memlight.metrics.null import unitmem_null
from memlight.metrics.unitmem import UnitMem, UnitMemResult

UNITS = {"a": 40, "b": 25}


def measured(seed: int) -> dict[str, UnitMemResult]:
    """Two layers with a dead unit each, and the median form."""
    results = {}
    for number, (layer, units) in enumerate(UNITS.items()):
        mu = torch.from_numpy(np.random.default_rng([seed, number]).gamma(1.0 + number, size=(60, units)))
        mu[:, 4] = 0
        metric = UnitMem(units, "median", topk=3)
        metric.update(mu, torch.arange(60))
        results[layer] = metric.compute()
    return results


RESULTS, HELD_OUT = measured(0), measured(1)
TABLE, EXCESS = unitmem_table(RESULTS), excess_table(RESULTS, HELD_OUT)
SCORES = unit_scores(RESULTS, EXCESS, HELD_OUT)


def living(name: str, layer: str | None = None) -> list[float]:
    """Scores of living units, ascending."""
    rows = TABLE["layer"] == layer if layer else np.ones(len(TABLE["unit"]), dtype=bool)
    return sorted(value for value in SCORES[name][rows].tolist() if value == value)


def test_scores_leave_dead_units_out_and_what_there_is_not() -> None:
    assert list(SCORES) == ["scored", "null", "held_out"]
    for scores in SCORES.values():
        np.testing.assert_array_equal(np.flatnonzero(np.isnan(scores)), [4, 44])
    assert list(unit_scores(RESULTS, EXCESS)) == ["scored", "null"]
    two = UnitMem(3)
    two.update(torch.rand(2, 3), torch.arange(2))
    few = {"a": two.compute()}
    assert list(unit_scores(few, excess_table(few))) == ["scored"]  # no null of two images


def test_highest_units() -> None:
    highest = highest_units(TABLE, EXCESS, count=5)
    assert tuple(highest) == tuple(name for name in highest if name in UNITMEM_HIGHEST)
    order = sorted(range(65), key=lambda row: -TABLE["unitmem"][row])[:5]
    assert highest["rank"].tolist() == [1, 2, 3, 4, 5]
    for name in ("layer", "unit", "unitmem", "max_id", "unitmem_median"):
        assert highest[name].tolist() == [TABLE[name].tolist()[row] for row in order], name
    for name in ("null", "null_p95", "held_out"):
        assert highest[name].tolist() == [EXCESS[name].tolist()[row] for row in order], name
    everything = highest_units(TABLE, EXCESS, count=100)
    assert len(everything["unit"]) == 63 and everything["unitmem"].min() > 0


def test_each_layers_extremes_are_tested_as_published() -> None:
    tests = extreme_tests(TABLE["layer"], SCORES)
    assert list(tests) == list(UNITMEM_TESTS) and len(tests["t"]) == 6
    for row, (layer, name) in enumerate(zip(tests["layer"], tests["scores"], strict=True)):
        own = living(name, layer)
        k = int(0.1 * len(own))
        assert tests["k"][row] == k == {"a": 3, "b": 2}[layer]
        numbers = [
            statistics.mean(own[-k:]),
            statistics.stdev(own[-k:]),
            statistics.mean(own[:k]),
            statistics.stdev(own[:k]),
        ]
        columns = ("top_mean", "top_std", "bottom_mean", "bottom_std")
        np.testing.assert_allclose([tests[column][row] for column in columns], numbers, rtol=1e-9)
        from_numbers = stats.ttest_ind_from_stats(numbers[0], numbers[1], k, numbers[2], numbers[3], k, equal_var=False)
        assert tests["t"][row] == pytest.approx(from_numbers.statistic, rel=1e-9)
        assert tests["p"][row] == pytest.approx(from_numbers.pvalue, rel=1e-9)


def test_a_published_row_is_this_test() -> None:
    """32 units of which the top 3 have mean .731 and deviation .1202, the bottom 3 .421 and .0102: t 4.45, p .0457."""

    def three(mean: float, deviation: float) -> list[float]:
        return [mean - deviation, mean, mean + deviation]

    scores = np.array([*three(0.731, 0.1202), *np.linspace(0.45, 0.55, 26), *three(0.421, 0.0102)])
    tests = extreme_tests(np.full(32, "conv.out"), {"scored": scores})
    assert tests["k"].tolist() == [3]
    assert (round(tests["t"][0], 2), round(tests["p"][0], 4)) == (4.45, 0.0457)


def test_shares_of_the_extremes_of_all_units() -> None:
    extremes = extreme_shares(TABLE["layer"], SCORES)
    assert list(extremes) == list(UNITMEM_EXTREMES)
    for row, (layer, name) in enumerate(zip(extremes["layer"], extremes["scores"], strict=True)):
        overall, own = living(name), living(name, layer)
        k = int(0.1 * len(overall))
        assert extremes["units"][row] == len(own)
        assert extremes["top"][row] == pytest.approx(sum(value in overall[-k:] for value in own) / len(own))
        assert extremes["bottom"][row] == pytest.approx(sum(value in overall[:k] for value in own) / len(own))


def test_mean_and_median_forms_by_layer_and_over_all_units() -> None:
    medians = median_agreement(RESULTS, HELD_OUT)
    assert list(medians) == list(UNITMEM_MEDIANS)
    assert medians["layer"].tolist() == ["a", "b", ALL] * 2
    assert medians["scores"].tolist() == ["scored"] * 3 + ["held_out"] * 3
    assert medians["units"].tolist() == [39, 24, 63] * 2
    forms = []
    for layer, result in RESULTS.items():
        alive = [unit for unit in range(UNITS[layer]) if unit != 4]
        both = np.stack([result.unitmem.numpy()[alive], result.unitmem_median.numpy()[alive]])
        row = list(RESULTS).index(layer)
        assert medians["median"][row] == pytest.approx(both[1].mean())
        null, _ = unitmem_null(result.tail_mu.numpy()[:, alive], result.mu_rest_median.numpy()[alive], 60)
        assert medians["null_median"][row] == pytest.approx(null.mean())
        forms.append(both)
    together = np.concatenate(forms, axis=1)
    assert medians["pearson"][2] == pytest.approx(np.corrcoef(together)[0, 1])
    ranks = together.argsort(1).argsort(1)
    assert medians["spearman"][2] == pytest.approx(np.corrcoef(ranks)[0, 1])
    with pytest.raises(ValueError, match="median form"):
        metric = UnitMem(2)
        metric.update(torch.rand(5, 2), torch.arange(5))
        median_agreement({"a": metric.compute()})


def test_a_layer_without_living_units_gives_nan() -> None:
    metric = UnitMem(3, "median")
    metric.update(torch.zeros(5, 3), torch.arange(5))
    dead = {"a": RESULTS["a"], "dead": metric.compute()}
    table, excess = unitmem_table(dead), excess_table(dead)
    scores = unit_scores(dead, excess)
    tests, extremes = extreme_tests(table["layer"], scores), extreme_shares(table["layer"], scores)
    of_dead = tests["layer"] == "dead"
    assert np.isnan(tests["top_mean"][of_dead]).all() and np.isnan(tests["p"][of_dead]).all()
    assert extremes["units"][extremes["layer"] == "dead"].tolist() == [0, 0]
    assert np.isnan(median_agreement(dead)["spearman"][1])
    only = {"dead": metric.compute()}
    assert unit_scores(only, excess_table(only)) == {}
    assert len(extreme_tests(np.array(["dead"] * 3), {})["t"]) == 0
