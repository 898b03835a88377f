"""What is compared of runs: their settings, headline numbers, layers and groups, against loops over the runs."""

import math
import shutil
import statistics
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from memlight.analyses import features
from memlight.analyses.registry import headline_columns
from memlight.report.compare.groups import default_keys, group_curve, group_runs, run_curve, spread, spread_words
from memlight.report.compare.page import Comparison, comparison_page
from memlight.report.compare.runs import common_axis, layers_table, open_runs, same_encoders
from memlight.runs.analysis import rows_by_depth
from memlight.runs.settings import comparable, differing, flat_settings
from memlight.storage.rundir import RunDir
from memlight.storage.tables import write_json
from tests.compared_runs import (
    CONTRAST,
    LAYERS,
    add_classmem,
    add_dejavu,
    add_layermem,
    add_probe,
    add_unitmem,
    config,
    make_run,
    make_study,
)
from tests.report.test_page import Reader
from tests.synthetic_run import released_file, splits_file, weights_record


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Six runs to read."""
    return make_study(tmp_path_factory.mktemp("study"))


def page_of(*paths: str) -> Reader:
    """The page of these runs, without figures."""
    runs = open_runs(paths)
    return Reader(comparison_page(Comparison(runs, group_runs(runs, default_keys(runs)), common_axis(runs)), {}))


# Settings


def test_settings_are_flat_and_told_apart_by_the_names_of_flags() -> None:
    flat = flat_settings(comparable(config(encoder="resnet18", repeat=4, temperature=0.2)))
    assert list(flat)[:5] == ["method", "encoder", "dataset", "views", "repeat"]
    assert (flat["method"], flat["repeat"], flat["lr"], flat["epochs"]) == ("simclr", 4, 0.06, 60)
    assert (flat["model.temperature"], flat["data.mean"]) == (0.2, "0.5, 0.5, 0.5")
    assert not {"data.role", "role", "data.root", "trainer.logger"} & flat.keys()
    other = flat_settings(comparable(config(encoder="resnet18", repeat=16, momentum=0.9)))
    assert differing([flat, other, flat]) == ["repeat", "model.temperature", "model.momentum"]
    assert differing([flat, dict(flat)]) == []
    assert differing([{"a": 1}, {"a": 1.0}, {"a": None}]) == ["a"]


# Headline numbers


def test_headlines_are_those_of_the_last_and_of_the_highest_layer(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    add_layermem(run, [0.0, 0.03, math.nan, 0.02], layers=("a", "b", "c", "d"), half=0.005, membership=True)
    add_unitmem(run, [0.5, 0.25], layers=("a", "b"), contrast=0.01)
    add_probe(run, knn=0.45, linear=0.55)
    add_classmem(run, [0.9, 0.3], layers=("a", "c"))
    add_dejavu(run, [0.0, 0.02], layers=("a", "b"), half=0.01)
    add_layermem(other := make_run(tmp_path / "other"), [math.nan, math.nan, math.nan, math.nan, math.nan])
    first, second = open_runs([str(run.root), str(other.root)])
    expected = {
        **{"contrast/last": 0.02, "contrast/last_low": 0.015, "contrast/last_high": 0.025},
        **{"contrast/peak": 0.03, "contrast/peak_low": 0.023, "contrast/peak_high": 0.037, "contrast/peak_layer": "b"},
        **{"contrast/peak_p": 0.0, "membership/auc_pair_peak": 0.53, "membership/auc_pair_peak_p": 0.0},
        **{"membership/auc_pair_peak_low": 0.43, "membership/auc_pair_peak_high": 0.63},
        "membership/auc_pair_peak_layer": "b",
        **{"layermem/last": 0.12, "unitmem/last": 0.25, "classmem/last": 0.3},
        **{"unit_contrast/last": 0.01, "unit_contrast/last_low": 0.006, "unit_contrast/last_high": 0.014},
        **{"own_max_share/last": 0.6, "own_max_share/last_low": 0.0, "own_max_share/last_high": 0.0},
        **{"dejavu/last": 0.02, "dejavu/last_low": 0.01, "dejavu/last_high": 0.03},
        **{"knn_top1": 0.45, "linear_top1": 0.55},
    }
    assert first.numbers.keys() == expected.keys() == set(headline_columns())
    assert dict(first.numbers) == {name: pytest.approx(value) for name, value in expected.items()}
    np.testing.assert_array_equal(first.layers["classmem"], [0.9, math.nan, 0.3, math.nan])
    np.testing.assert_allclose(first.layers["dejavu_low"], [-0.01, 0.01, math.nan, math.nan])
    assert math.isnan(second.number("contrast/last")) and math.isnan(second.number("contrast/peak"))
    assert second.missing == ["unitmem", "probe"]
    assert features.ANALYSIS.headlines({"table": {}}) == {} and list(rows_by_depth({})) == []


def test_a_run_without_a_pair_has_unitmem_alone(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / name) for name in ("a", "b")]
    for run in runs:
        add_unitmem(run, [0.1, 0.2, 0.3, 0.4, 0.5], contrast=None)
    first, _ = open_runs([str(run.root) for run in runs])
    assert dict(first.numbers) == {"unitmem/last": 0.5}
    assert np.isnan(first.layers["unit_contrast"]).all() and np.isnan(first.layers["contrast"]).all()
    assert "The contrast was measured in none of these runs." in page_of(*(str(run.root) for run in runs)).text


def test_an_encoder_from_elsewhere_is_compared_by_what_is_recorded_of_it(tmp_path: Path) -> None:
    runs = []
    for name, weights in (("resnet18", weights_record("simclr.pth")), ("resnet50", None)):
        run = RunDir(tmp_path / name)
        write_json(run.splits, splits_file())
        write_json(run.released, released_file(encoder=name, weights=weights))
        add_unitmem(run, [0.3, 0.4], layers=(f"{name}.stem", f"{name}.top"), contrast=None)
        runs.append(str(run.root))
    opened = open_runs(runs)
    assert differing([run.settings for run in opened]) == ["encoder", "model.weights"]
    assert opened[0].settings["dataset"] == "photos" and opened[1].settings["model.weights"] == "random"


# Layers


def test_layers_of_different_architectures_stand_at_their_relative_depth(tmp_path: Path) -> None:
    deep = ("stem", "blocks.0.attn", "blocks.0.norm2@in", "blocks.0.mlp", "blocks.0")
    add_layermem(a := make_run(tmp_path / "a", config(encoder="resnet9")), [0.0, 0.3, 0.6], layers=("x", "y", "z"))
    add_layermem(b := make_run(tmp_path / "b", config(encoder="vit")), [0.0, 0.1, 0.2, 0.3, 0.4], layers=deep)
    runs = open_runs([str(a.root), str(b.root)])
    axis = common_axis(runs)
    assert axis.layers is None
    assert axis.depth["a"].tolist() == [0, 1 / 2, 1] and axis.depth["b"].tolist() == [0, 1 / 4, 2 / 4, 3 / 4, 1]
    table = layers_table(runs, axis)
    assert table["run"].tolist() == ["a"] * 3 + ["b"] * 5
    assert table["layer"].tolist() == ["x", "y", "z", *deep]
    (group,) = group_runs(runs, ["method"])
    curve = group_curve(group, axis, "contrast")
    for x, middle, low, high in zip(curve.x, curve.middle, curve.low, curve.high, strict=True):
        both = [0.6 * x, 0.4 * x]  # both are straight lines
        assert (middle, low, high) == pytest.approx((sum(both) / 2, min(both), max(both)))
    assert curve.x.tolist() == [0, 0.25, 0.5, 0.75, 1]


def test_a_few_layers_of_one_architecture_stand_among_all_of_them(tmp_path: Path) -> None:
    add_layermem(whole := make_run(tmp_path / "whole"), [0.0, 0.1, 0.2, 0.3, 0.4])
    add_layermem(part := make_run(tmp_path / "part", config(seed=1)), [0.5, 0.7], layers=(LAYERS[1], LAYERS[3]))
    add_unitmem(part, [0.6], layers=(LAYERS[2],))
    runs = open_runs([str(part.root), str(whole.root)])
    axis = common_axis(runs)
    assert axis.layers == list(LAYERS)
    assert axis.depth["part"].tolist() == [1 / 4, 3 / 4, 2 / 4]
    assert run_curve(runs[0], axis, "contrast").x.tolist() == [1 / 4, 3 / 4]
    assert run_curve(runs[0], axis, "unitmem").middle.tolist() == [0.6]
    (group,) = group_runs(runs, [])
    curve = group_curve(group, axis, "contrast")
    assert curve.x.tolist() == [0.25, 0.5, 0.75]  # where both were measured
    assert curve.middle.tolist() == pytest.approx([(0.5 + 0.1) / 2, (0.6 + 0.2) / 2, (0.7 + 0.3) / 2])


def test_a_single_layer_is_the_last_one(tmp_path: Path) -> None:
    paths = []
    for name in ("a", "b"):
        add_layermem(run := make_run(tmp_path / name), [0.2], layers=("top",))
        paths.append(str(run.root))
    axis = common_axis(open_runs(paths))
    assert axis.depth["a"].tolist() == [1.0]
    assert ["a", "0.2000 [0.1990, 0.2010]", "0.2000 [0.1986, 0.2014] top"] in page_of(*paths).rows


# Groups


def test_runs_that_differ_in_seed_only_are_a_group(study: list[str]) -> None:
    runs = open_runs(study[::-1])
    assert default_keys(runs) == ["repeat"]
    groups = group_runs(runs, default_keys(runs))
    assert [group.label for group in groups] == ["repeat 1", "repeat 4"]
    for group, repeat in zip(groups, (1, 4), strict=True):
        assert sorted(run.name for run in group.runs) == [f"r{repeat}_s{seed}" for seed in (0, 1, 2)]
        values = [CONTRAST[repeat, seed][-1] for seed in (0, 1, 2)]
        found = spread(group, "contrast/last")
        ends = stats.t.interval(0.95, 2, statistics.mean(values), statistics.stdev(values) / math.sqrt(3))
        assert (found.runs, found.mean) == (3, pytest.approx(statistics.mean(values)))
        assert (found.lowest, found.highest) == pytest.approx((min(values), max(values)))
        assert (found.mean_low, found.mean_high) == pytest.approx(ends)
        curve = group_curve(group, common_axis(runs), "contrast")
        for layer in range(5):
            of_layer = [CONTRAST[repeat, seed][layer] for seed in (0, 1, 2)]
            numbers = (curve.middle[layer], curve.low[layer], curve.high[layer])
            assert numbers == pytest.approx((sum(of_layer) / 3, min(of_layer), max(of_layer)))
    assert spread_words(groups) == "Runs of a group differ in seed alone."
    assert spread(groups[1], "knn_top1").runs == 0 and math.isnan(spread(groups[1], "knn_top1").mean)


def test_a_group_of_one_shows_the_interval_over_its_images(study: list[str]) -> None:
    runs = open_runs([study[0], study[3]])
    groups = group_runs(runs, default_keys(runs))
    assert [group.label for group in groups] == ["r1_s0", "r4_s0"]
    found, last = spread(groups[0], "contrast/last"), CONTRAST[1, 0][-1]
    assert found.runs == 1
    assert (found.mean_low, found.mean_high) == pytest.approx((last - 0.001, last + 0.001))
    assert math.isnan(spread(groups[0], "linear_top1").mean_low)
    curve = group_curve(groups[0], common_axis(runs), "contrast")
    np.testing.assert_allclose(curve.high - curve.low, 0.002)
    assert spread_words(groups).startswith("Every group is a single run")


def test_the_words_say_what_a_spread_is_not(study: list[str], tmp_path: Path) -> None:
    runs = open_runs(study)
    assert "also differ in repeat: their spread is not" in spread_words(group_runs(runs, []))
    assert [group.label for group in group_runs(runs, [])] == ["all runs"]
    again = shutil.copytree(study[0], tmp_path / "copy")
    copies = open_runs([study[0], str(again)])
    assert "do not even differ in a seed" in spread_words(group_runs(copies, default_keys(copies)))
    assert same_encoders(copies) == [["r1_s0", "copy"]] and same_encoders(runs) == []
    words = "The runs differ in no setting. r1_s0 and copy hold the same encoder file."
    assert words in page_of(study[0], str(again)).text


def test_groups_come_by_number_then_by_word_then_what_is_not_set(tmp_path: Path) -> None:
    paths = []
    for index, momentum in enumerate((None, "high", 16, 4)):
        run = make_run(tmp_path / str(index), config(**({} if momentum is None else {"momentum": momentum})))
        paths.append(str(run.root))
    groups = group_runs(open_runs(paths), ["model.momentum"])
    assert [group.values["model.momentum"] for group in groups] == [4, 16, "high", None]
