"""Words about units follow their numbers, and older results have no section they have no table for."""

from pathlib import Path

import numpy as np

from memlight.analyses.unitmem.columns import UNITMEM_HIGHEST, UNITMEM_MEDIANS, UNITMEM_NULL, UNITMEM_TESTS
from memlight.analyses.unitmem.section import (
    calibration_words,
    contrast_words,
    excess_html,
    excess_words,
    medians_words,
    overall_words,
    unitmem_section,
    welch_words,
)
from memlight.storage.rundir import RunDir
from memlight.storage.schema import required
from memlight.storage.tables import Table, table_of, write_table
from tests.synthetic_run import analyse, make_trained


def welch_table(p: dict[str, list[float]]) -> Table:
    rows = [(f"layer{n}", name, 3, 0.7, 0.1, 0.4, 0.01, 5.0, value) for name in p for n, value in enumerate(p[name])]
    return table_of(UNITMEM_TESTS, rows)


def medians(held_out: bool) -> Table:
    kinds = ("scored", "held_out") if held_out else ("scored",)
    values = {
        "first": (0.5, 0.6, 0.4, 0.5, 0.95, 0.91),
        "last": (0.7, 0.8, 0.6, 0.7, 0.85, 0.71),
        "all": (0.6, 0.7, 0.5, 0.6, 0.9, 0.8),
    }
    return table_of(UNITMEM_MEDIANS, [(layer, kind, 9, *row) for kind in kinds for layer, row in values.items()])


def test_words_about_the_test_say_what_it_finds_in_the_null() -> None:
    words = welch_words(welch_table({"scored": [0.01, 0.2, np.nan], "null": [0.001, 0.02, 0.03]}))
    assert "the scores give p < .05 in 1 of 2 layers" in words
    assert "where no image is special, give p < .05 in 3 of 3 layers" in words and "held-out" not in words
    assert "too few units" in welch_words(welch_table({"scored": [np.nan]}))


def test_words_about_all_units() -> None:
    assert overall_words({}) == ""
    assert overall_words({"all/scored_mean": 0.57, "precision": "fp32"}) == "Over all units the mean is 0.570."
    words = overall_words(
        {"all/scored_mean": 0.57, "all/null_mean": 0.55, "all/held_out_mean": 0.56, "precision": "bf16"}
    )
    assert words.endswith(
        "0.570, forwards in bfloat16, beside 0.550 of exchangeable images and 0.560 on held-out images."
    )


def test_words_about_the_median() -> None:
    words = medians_words(medians(held_out=True))
    assert "median the mean score is 0.700 (null 0.600), against the mean 0.600 (null 0.500)" in words
    assert "correlate by 0.900, in rank by 0.800 (within a layer 0.710 to 0.910); on held-out images by 0.900" in words
    assert "held-out" not in medians_words(medians(held_out=False))


def test_older_results_show_what_they_have(tmp_path: Path) -> None:
    assert unitmem_section(RunDir(tmp_path / "none")) == ""
    run = make_trained(tmp_path / "run")
    analyse(run)
    before = unitmem_section(run)
    assert "res6" in before and "highest scores" not in before and "Welch" not in before
    analysis = run.analysis("unitmem")
    row = (1, "res6", 7, 0.8, 0.6, 0.7, 0.65, 2.0, 0.2, 31337)
    write_table(analysis.table("highest"), table_of([*UNITMEM_HIGHEST][:10], [row]), UNITMEM_HIGHEST)
    write_table(analysis.table("tests"), welch_table({"scored": [0.01]}), UNITMEM_TESTS)
    write_table(analysis.table("medians"), medians(held_out=False), UNITMEM_MEDIANS)
    after = unitmem_section(run)
    for words in (
        "31337",
        "The 1 units with the highest scores",
        "Welch&#x27;s t-test",
        "against the median of the others",
    ):
        assert words in after


def null(low: list[float], held_out_high: list[float]) -> Table:
    columns = {name: np.zeros(2) for name in required(UNITMEM_NULL)[1:]}
    columns |= {"excess": np.array(low) + 0.01, "excess_low": np.array(low), "held_out_high": np.array(held_out_high)}
    return {"layer": np.array(["early", "late"]), **columns}


def over_other(difference: list[float], p: list[float]) -> Table:
    return {"over_other": np.array(difference), "over_other_p_adjusted": np.array(p)}


def test_words_about_the_excess_name_layers_by_the_relabelled_test_alone() -> None:
    table = null([0.01, -0.02], [0.05, 0.05])
    alone = excess_words(table)
    assert alone.startswith(
        "UnitMem exceeds what exchangeable images would score by \N{MINUS SIGN}0.0100 to 0.0200 by layer, on held-out "
    )
    assert "so no layer is named" in alone and "late" not in alone and "early" not in alone
    nothing = excess_words(table | over_other([0.1, 0.2], [0.2, 0.06]))
    assert "not larger on own images than on those of the other member in any layer (2 layers tested" in nothing
    found = excess_words(table | over_other([-0.1, 0.2], [0.02, 0.05]))
    assert "larger on own images than on those of the other member in late (2 layers tested together" in found
    assert found.endswith("In early it is smaller.")
    unknown = null([0.01, 0.02], [np.nan, np.nan]) | {"held_out_excess": np.full(2, np.nan)}
    assert "held-out" not in excess_words(unknown)
    assert "too few images" in excess_words(table | {"excess": np.full(2, np.nan)})


def test_words_about_the_unit_contrast_name_layers_by_their_adjusted_p() -> None:
    layers = {"layer": np.array(["early", "late"]), "unit_contrast": np.array([-0.1, 0.2])}
    assert "analyze.py unitmem`, run again" in contrast_words(layers)
    named = contrast_words(layers | {"unit_contrast_p_adjusted": np.array([0.06, 0.05])})
    assert named.endswith("is above 0 in late (2 layers tested together at a family-wise 5 %).")
    below = contrast_words(layers | {"unit_contrast_p_adjusted": np.array([0.01, 0.2])})
    assert "not above 0 in any layer" in below and "In early it lies below 0" in below


def test_words_say_where_the_95th_percentile_is_calibrated() -> None:
    table = null([0.01, 0.02], [0.0, 0.0])
    for trusted, words in (
        ([True, True], "By chance 5 to 9 % of the units lie above the 95th percentile of their null."),
        ([True, False], "null where it is calibrated. It is not in late: units' tails differ"),
        ([False, False], "It is not in any layer: "),
    ):
        assert words in calibration_words({**table, "p95_calibrated": np.array(trusted)})
    assert "made before it was tested" in calibration_words(table)


def test_an_older_table_is_shown_without_the_newer_columns(tmp_path: Path) -> None:
    analysis = RunDir(tmp_path).analysis("unitmem")
    write_table(analysis.table("null"), null([0.01, 0.02], [0.0, 0.0]), UNITMEM_NULL)
    shown = excess_html(analysis)
    assert "units above null 95 %" in shown and "shape of tails" not in shown and "made before" in shown


def test_a_result_without_the_table_has_no_section(tmp_path: Path) -> None:
    analysis = RunDir(tmp_path).analysis("unitmem")
    assert excess_html(analysis) == ""
    write_table(analysis.table("null"), null([0.01, 0.02], [0.0, 0.0]), UNITMEM_NULL)
    assert "late" in excess_html(analysis) and "Excess over the null" in excess_html(analysis)
