"""The tables against the results they are made of."""

import math
import statistics

import numpy as np
import pytest
import torch
from scipy import stats

from memlight.analyses.layermem.columns import LAYERMEM_INTERVALS, LAYERMEM_SAMPLES, LAYERMEM_TABLE
from memlight.analyses.layermem.membership import scores_of
from memlight.analyses.layermem.tables import control_tests, layermem_intervals, layermem_samples, layermem_table
from memlight.analyses.unitmem import tables as summaries
from memlight.analyses.unitmem.columns import (
    UNITMEM_EXCESS,
    UNITMEM_EXTREMES,
    UNITMEM_HIGHEST,
    UNITMEM_LAYERS,
    UNITMEM_MEDIANS,
    UNITMEM_NULL,
    UNITMEM_TABLE,
    UNITMEM_TESTS,
    UNITMEM_TOP,
)
from memlight.analyses.unitmem.contrast import UnitContrast
from memlight.analyses.unitmem.excess import ExcessOverOther, layer_excess, layer_null, tail_of
from memlight.analyses.unitmem.tables import (
    ALL,
    excess_table,
    extreme_shares,
    extreme_tests,
    highest_units,
    median_agreement,
    split_half,
    unit_scores,
    unitmem_curve,
    unitmem_table,
)
from memlight.metrics.functional import unitmem
from memlight.metrics.layermem import LayerMem, LayerMemResult
from memlight.metrics.null import unitmem_null
from memlight.metrics.unitmem import UnitMem, UnitMemResult
from memlight.stats import Claim, bootstrap_means, family, welch
from memlight.storage.schema import required

SPLITS = {"shared": 0, "candidate": 200, "independent": 400, "external": 600}


def layermem_results(
    images: int = 120, layers: tuple[str, ...] = ("0", "1", "late")
) -> dict[str, dict[str, LayerMemResult]]:
    results: dict[str, dict[str, LayerMemResult]] = {}
    for split, start in SPLITS.items():
        generator = torch.Generator().manual_seed(start)
        results[split] = {}
        for depth, layer in enumerate(layers):
            gain = 0.05 * depth * (split == "candidate")
            metric = LayerMem()
            f, g = torch.rand(2, images, generator=generator) + 0.5
            metric.update(f, g + gain, start + torch.arange(images))
            results[split][layer] = metric.compute()
    return results


def test_layermem_table() -> None:
    results = layermem_results()
    table = layermem_table(results)
    assert set(table) == set(LAYERMEM_TABLE)
    assert table["layer"].tolist() == ["0", "1", "late"] and table["n"].tolist() == [120] * 3
    late = {split: results[split]["late"].scores.numpy() for split in SPLITS}
    np.testing.assert_allclose(table["layermem"][2], late["candidate"].mean(), rtol=1e-12)
    np.testing.assert_allclose(table["delta"][1:], np.diff(table["layermem"]), rtol=1e-12)
    for split in ("shared", "independent", "external"):
        np.testing.assert_allclose(table[f"control_{split}"][2], late[split].mean(), rtol=1e-12)
    groups = [
        np.stack([result.scores.numpy() for result in results[split].values()], axis=1)
        for split in ("candidate", "independent")
    ]
    tested = family(*groups)
    value = (late["candidate"].mean() - late["independent"].mean()) / 2
    np.testing.assert_allclose(table["contrast"][2], value, rtol=1e-8)
    for column, expected in {
        "contrast_low": tested.low,
        "contrast_high": tested.high,
        "p_adjusted": tested.p_adjusted,
        "contrast_simultaneous_low": tested.simultaneous_low,
        "contrast_simultaneous_high": tested.simultaneous_high,
    }.items():
        np.testing.assert_array_equal(table[column], expected)
    order = np.argsort(-late["candidate"])
    first = results["candidate"]["0"].scores.numpy()
    np.testing.assert_allclose(table["top50"], [*(first[order[:50]].mean(),), *table["top50"][1:]], rtol=1e-12)
    np.testing.assert_allclose(table["least50"][2], np.sort(late["candidate"])[:50].mean(), rtol=1e-12)


def test_delta_of_a_transformer_is_against_the_stream_that_feeds_the_layer() -> None:
    layers = ("stem", *(f"blocks.{n}{part}" for n in range(3) for part in (".attn", ".norm2@in", ".mlp", "")))
    table = layermem_table(layermem_results(20, layers))
    layermem = dict(zip(layers, table["layermem"], strict=True))
    delta = dict(zip(layers, table["delta"], strict=True))

    for n in range(3):  # [P] eq 4 and Table 10; the sums are compared with the stream before them
        res_mlp_before = layermem[f"blocks.{n - 1}" if n else "stem"]
        res_att = layermem[f"blocks.{n}.norm2@in"]
        expected = {
            f"blocks.{n}.attn": layermem[f"blocks.{n}.attn"] - res_mlp_before,
            f"blocks.{n}.norm2@in": res_att - res_mlp_before,
            f"blocks.{n}.mlp": layermem[f"blocks.{n}.mlp"] - res_att,
            f"blocks.{n}": layermem[f"blocks.{n}"] - res_att,
        }
        for layer, value in expected.items():
            assert delta[layer] == value, layer
    assert np.isnan(delta["stem"]) and len(set(layermem.values())) == len(layers)


def test_delta_is_nan_where_the_stream_was_not_measured() -> None:
    table = layermem_table(layermem_results(20, ("stem", "blocks.1.attn", "blocks.1.mlp", "head")))
    assert np.isnan(table["delta"][:3]).all()
    assert table["delta"][3] == table["layermem"][3] - table["layermem"][2]


def test_missing_splits_give_nan() -> None:
    results = layermem_results(10)
    table = layermem_table({"candidate": results["candidate"]})
    for column in ("control_independent", "control_external", "control_shared", "contrast", "contrast_low"):
        assert np.isnan(table[column]).all()
    np.testing.assert_allclose(table["top50"], table["layermem"])
    assert control_tests({"candidate": results["candidate"]})["t"].size == 0


def test_layermem_samples_has_a_row_per_image_and_layer() -> None:
    results = layermem_results(4)
    table = layermem_samples(results, scores_of(results), lambda ids: ids % 10)
    assert [*table, "path"] == list(LAYERMEM_SAMPLES)  # which is known where a table is written
    row = np.flatnonzero((table["id"] == 403) & (table["layer"] == "late"))
    assert row.size == 1 and len(table["id"]) == 4 * 3 * 4
    assert table["split"][row] == "independent" and table["label"][row] == 3
    assert table["score"][row] == results["independent"]["late"].scores[3].item()


def test_control_tests_are_welch() -> None:
    results = layermem_results()
    table = control_tests(results)
    row = np.flatnonzero((table["layer"] == "late") & (table["control"] == "external"))[0]
    scores = [results[split]["late"].scores.numpy() for split in ("candidate", "external")]
    assert (table["t"][row], table["p"][row]) == welch(*scores)
    assert len(table["t"]) == 9


def test_layermem_intervals() -> None:
    results = layermem_results()
    table, intervals = layermem_table(results), layermem_intervals(results)
    assert list(intervals) == list(LAYERMEM_INTERVALS)
    for name in ("layermem", "top50", "least50", "control_independent", "control_external", "control_shared"):
        np.testing.assert_allclose(intervals[name], table[name], rtol=1e-12, err_msg=name)
        assert (intervals[f"{name}_low"] <= table[name]).all() and (table[name] <= intervals[f"{name}_high"]).all()
        spread = intervals[f"{name}_high"] - intervals[f"{name}_low"]
        assert (spread > 0.005).all() and (spread < 0.2).all()
    candidates = np.stack([result.scores.numpy() for result in results["candidate"].values()])
    low, high = bootstrap_means(candidates[:, np.argsort(-candidates[-1], kind="stable")])
    np.testing.assert_array_equal([intervals["layermem_low"], intervals["layermem_high"]], [low, high])
    alone = layermem_intervals({"candidate": results["candidate"]})
    assert np.isnan(alone["control_external"]).all() and np.isnan(alone["control_external_low"]).all()


def test_excess_and_null_tables() -> None:
    results, held_out = unitmem_results(), unitmem_results(seed=1)
    excess, null = summaries.excess_table(results, held_out), summaries.null_table(results, held_out)
    assert list(excess) == list(UNITMEM_EXCESS) and [*null] == [*UNITMEM_NULL][: len(null)]
    assert [*null][-3:] == ["held_out_above_null_p95", "tail_shape", "p95_calibrated"]
    assert np.isnan(excess["null"][[1, 31]]).all() and excess["unitmem"][1] == 0
    for row, layer in enumerate(results):
        living = (excess["layer"] == layer) & np.isfinite(excess["null"])
        expected, p95 = layer_null(results[layer])
        np.testing.assert_array_equal(excess["null"][living], np.delete(expected, 1))
        np.testing.assert_array_equal(excess["null_p95"][living], np.delete(p95, 1))
        for column, values in (
            ("mean", excess["unitmem"][living]),
            ("null_mean", excess["null"][living]),
            ("excess", excess["unitmem"][living] - excess["null"][living]),
            ("above_null_p95", excess["unitmem"][living] > excess["null_p95"][living]),
            (
                "held_out_above_null_p95",
                excess["held_out"][living] > layer_null(held_out[layer])[1][~np.isnan(expected)],
            ),
        ):
            assert null[column][row] == pytest.approx(values.mean()), column
        assert null["excess_low"][row] < null["excess"][row] < null["excess_high"][row]
        assert null["held_out_excess"][row] == layer_excess(held_out[layer]).value
        np.testing.assert_array_equal(excess["held_out"][excess["layer"] == layer], held_out[layer].unitmem)
        assert null["p95_calibrated"][row] == tail_of(results[layer]).calibrated
        assert (excess["p95_calibrated"][living] == null["p95_calibrated"][row]).all()
        assert null["tail_shape"][row] == tail_of(results[layer]).shape
    assert not excess["p95_calibrated"][~np.isfinite(excess["null"])].any()
    wide = unitmem_results(units=80)
    assert summaries.null_table(wide)["p95_calibrated"].tolist() == [True, False]  # the other has four units
    assert summaries.excess_table(wide)["p95_calibrated"].tolist() == [True, False, *[True] * 78, *[False] * 4]
    claim = Claim(0.01, 0.0, 0.02, 0.2, -0.01, 0.03)
    pair = summaries.null_table(results, held_out, {layer: ExcessOverOther(0.004, claim) for layer in results})
    assert list(pair) == list(UNITMEM_NULL) and pair["other_excess"].tolist() == [0.004] * 2
    assert [pair[name][0] for name in [*UNITMEM_NULL][-6:]] == [*claim]
    alone = summaries.excess_table(results), summaries.null_table(results)
    assert np.isnan(alone[0]["held_out"]).all() and np.isnan(alone[1]["held_out_excess"]).all()
    assert np.isnan(alone[1]["held_out_above_null_p95"]).all()


def unitmem_results(reference: str = "mean", seed: int = 0, units: int = 30) -> dict[str, UnitMemResult]:
    results = {}
    for layer, width in (("a", units), ("b", 4)):
        metric = UnitMem(width, reference, topk=3)
        mu = torch.from_numpy(np.random.default_rng(seed).gamma(2.0, size=(50, width)))
        mu[:, 1] = 0
        metric.update(mu, torch.arange(50))
        results[layer] = metric.compute()
    return results


@pytest.mark.parametrize("reference", ["mean", "median"])
def test_unitmem_table(reference: str) -> None:
    results = unitmem_results(reference)
    table = summaries.unitmem_table(results)
    columns = [*UNITMEM_TABLE][: 10 if reference == "median" else 8]
    assert list(table) == columns
    assert table["layer"].tolist() == ["a"] * 30 + ["b"] * 4 and table["unit"].tolist() == [*range(30), *range(4)]
    assert table["depth"][-1] == 1 and table["dead"].sum() == 2
    np.testing.assert_array_equal(table["unitmem"][30:], results["b"].unitmem_mean)
    np.testing.assert_array_equal(table[columns[-2] if reference == "median" else "unitmem"][30:], results["b"].unitmem)


def test_unitmem_top_lists_living_units() -> None:
    results = unitmem_results()
    table = summaries.unitmem_top(results)
    assert list(table) == list(UNITMEM_TOP) and len(table["id"]) == (29 + 3) * 3
    row = (table["layer"] == "b") & (table["unit"] == 3)
    np.testing.assert_array_equal(table["id"][row], results["b"].topk_ids[:, 3])
    np.testing.assert_array_equal(table["mu"][row], results["b"].topk_mu[:, 3])
    assert table["rank"][row].tolist() == [0, 1, 2]


def test_unitmem_layers() -> None:
    results, held_out = unitmem_results(), unitmem_results(seed=1)
    claim = Claim(0.1, 0.05, 0.2, 0.03, 0.02, 0.25)
    pair = {layer: UnitContrast(claim, Claim(0.6, 0.5, 0.7, 0.2, 0.45, 0.75)) for layer in results}
    table = summaries.unitmem_layers(results, held_out, pair)
    assert set(table) == set(UNITMEM_LAYERS)
    scores = np.sort(np.delete(results["a"].unitmem.numpy(), 1))
    expected = {
        "units": 30,
        "dead": 1,
        "mean": scores.mean(),
        "p95": np.quantile(scores, 0.95),
        "max": scores.max(),
        "top_mean": scores[-2:].mean(),
        "bottom_mean": scores[:2].mean(),
        "held_out_mean": np.delete(held_out["a"].unitmem.numpy(), 1).mean(),
        "t": welch(scores[-2:], scores[:2]).t,
        "own_max_share": 0.6,
        "own_max_low": 0.5,
        "unit_contrast_high": 0.2,
        "unit_contrast_p_adjusted": 0.03,
        "own_max_simultaneous_low": 0.45,
    }
    for name, value in expected.items():
        np.testing.assert_allclose(table[name][0], value, rtol=1e-9, err_msg=name)
    assert abs(table["null_mean"][0] - scores.mean()) < 0.05 < table["null_p95"][0] - table["null_mean"][0]
    assert np.isnan(table["t"][1]) and table["top_mean"][1] == table["max"][1]
    alone = summaries.unitmem_layers(results)
    assert set(alone) == set([*UNITMEM_LAYERS][:14]) and np.isnan(alone["held_out_mean"]).all()


def test_a_layer_of_dead_units_is_counted_and_gives_nan() -> None:
    metric = UnitMem(3)
    metric.update(torch.zeros(5, 3), torch.arange(5))
    table = summaries.unitmem_layers({"dead": metric.compute()})
    assert table["dead"].tolist() == [3]
    assert np.isnan([table[name][0] for name in ("mean", "p95", "max", "top_mean", "null_mean")]).all()
    null = summaries.null_table({"dead": metric.compute()})
    assert np.isnan([null[name][0] for name in required(UNITMEM_NULL)[1:]]).all() and not null["p95_calibrated"][0]
    assert summaries.unitmem_top({"dead": metric.compute()})["id"].size == 0


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
        both = np.stack([result.unitmem_mean.numpy()[alive], result.unitmem_median.numpy()[alive]])
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


def result(keep_table: bool = True) -> UnitMemResult:
    mu = torch.from_numpy(np.random.default_rng(0).gamma(2.0, size=(80, 12)))
    mu[:, 5] = 0
    metric = UnitMem(12, keep_table=keep_table)
    metric.update(mu, torch.arange(80))
    return metric.compute()


def test_split_half_ranks_living_units() -> None:
    measured = result()
    assert math.isnan(split_half(measured))
    measured.halves = torch.rand(2, 12, dtype=torch.float64)
    living = np.delete(measured.halves.numpy(), 5, axis=1)
    np.testing.assert_allclose(split_half(measured), stats.spearmanr(*living).statistic)
    measured.halves = torch.zeros(2, 12)
    assert math.isnan(split_half(measured))


def test_curve_grows_with_noise_and_ends_at_the_score() -> None:
    measured = result()
    table = unitmem_curve({"a": measured, "b": measured}, [80, 5, 20, 200, 1])
    assert table["layer"].tolist() == ["a"] * 3 + ["b"] * 3 and table["n"].tolist() == [5, 20, 80] * 2
    np.testing.assert_allclose(table["mean"][2], measured.unitmem[~measured.dead].mean(), rtol=1e-6)
    assert (np.diff(table["mean"][:3]) > 0).all()
    order = np.random.default_rng(0).permutation(80)[:5]
    expected = unitmem(measured.mu[order][:, ~measured.dead]).mean()
    np.testing.assert_allclose(table["mean"][0], expected, rtol=1e-6)


def test_curve_needs_the_table() -> None:
    with pytest.raises(ValueError, match="keep_table"):
        unitmem_curve({"a": result(keep_table=False)}, [5])
    assert unitmem_curve({}, [5])["n"].size == 0
