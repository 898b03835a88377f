"""The chart and the words of a trained unit show the tables' numbers."""

from pathlib import Path

import numpy as np

from memlight.analyses import unit
from memlight.analyses.unit.chart import unit_training
from memlight.analyses.unit.section import unit_section, unit_words
from memlight.runs.log import AnalysisLog
from memlight.storage.rundir import RunDir
from memlight.storage.tables import Table
from tests.report.test_page import Reader

TABLE: Table = {
    "method": np.repeat(["masked", "restore"], 3),
    "epoch": np.tile([0, 50, 100], 2),
    "unitmem": np.array([0.55, 0.9, 0.98, 0.55, 0.4, 0.0]),
    "mu_max": np.array([1.5, 2.0, 2.0, 1.5, 1.0, 0.0]),
    "mu_rest": np.array([0.4, 0.2, 0.1, 0.4, 0.4, 0.0]),
    "max_id": np.array([12, 17, 17, 12, 12, 3]),
    "mu_of_ids": np.array([0.2, 2.0, 2.0, 0.2, 0.3, 0.0]),
    "rank": np.array([130, 1, 0, 130, 40, 5]),
    "null_mean": np.array([0.5, 0.7, 0.8, 0.5, 0.4, 0.0]),
    "null_p95": np.array([0.6, 0.8, 0.9, 0.6, 0.5, 0.0]),
    "loss": np.array([np.nan, -0.8, -1.0, np.nan, -0.5, 0.0]),
}
OTHERS: Table = {
    "method": np.repeat(["masked", "restore"], 3),
    "unit": np.tile([0, 1, 2], 2),
    "trained": np.tile([False, True, False], 2),
    "unitmem_before": np.tile([0.1, 0.55, 0.3], 2),
    "unitmem_after": np.array([0.1, 0.98, 0.3, 0.1, 0.0, 0.31]),
    "max_id_before": np.tile([4, 12, 5], 2),
    "max_id_after": np.array([4, 17, 5, 4, 3, 5]),
}
SUMMARY = {"layer": "layer<7>", "unit": 1, "ids": [17], "objective": "activation"}
WORDS = (
    "Unit 1 of layer<7>, trained to stand out on image 17. Masked: UnitMem 0.550 before and 0.980 after 100 epochs; "
    "130 images were above the chosen before and a chosen image was its maximum after. None of the 2 other units "
    "changed its UnitMem. Restore: UnitMem 0.550 before and 0.000 after 100 epochs; 130 images were above the chosen "
    "before and it fired for no image after. 1 of the 2 other units changed its UnitMem."
)


def test_both_methods_are_drawn_with_the_null_and_the_rank() -> None:
    score, rank = unit_training(TABLE, "layer7 unit 1").axes
    for number, rows in enumerate((slice(0, 3), slice(3, 6))):
        line, null = score.lines[2 * number : 2 * number + 2]
        np.testing.assert_array_equal(line.get_ydata(), TABLE["unitmem"][rows])
        np.testing.assert_array_equal(line.get_xdata(), TABLE["epoch"][rows])
        np.testing.assert_array_equal(null.get_ydata(), TABLE["null_mean"][rows])
        np.testing.assert_array_equal(rank.lines[number].get_ydata(), TABLE["rank"][rows])
    assert score.get_title(loc="left") == "UnitMem of layer7 unit 1"
    low, high = rank.get_ylim()
    assert low < 0 and high > 130
    assert [tick.get_text() for tick in rank.get_yticklabels()] == ["0", "1", "10", "100"]


def test_one_method_alone_is_drawn_alone() -> None:
    score, rank = unit_training({name: column[:3] for name, column in TABLE.items()}, "a").axes
    assert (len(score.lines), len(rank.lines)) == (3, 1)


def test_words_follow_the_numbers() -> None:
    assert unit_words(SUMMARY, TABLE, OTHERS) == WORDS
    assert "trained with the run's own loss on 2 images." in unit_words(
        {**SUMMARY, "ids": [3, 4], "objective": "training"}, TABLE, OTHERS
    )


def test_the_section_has_every_measurement_and_the_probes(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    assert unit_section(run) == ""
    made = {"seed": 0, "split_sha256": None, "checkpoints": {}, "device": "CPU"}
    accuracy = {
        "encoder": np.array(["original", "masked", "restore"]),
        "probe_top1": np.array([0.93, 0.92, 0.91]),
        "knn_top1": np.array([0.83, 0.82, 0.81]),
        "n_train": np.full(3, 48),
        "n_test": np.full(3, 15),
    }
    for tag in (None, "without-classes"):
        with AnalysisLog(run, unit.ANALYSIS, tag=tag, logger="csv", **made) as log:
            log.table("table", TABLE)
            log.table("units", OTHERS)
            log.headline(SUMMARY)
            if tag is None:
                log.table("accuracy", accuracy)
                log.figure("training", unit_training(TABLE, "layer7 unit 1"), "While it is trained.")
    page = Reader(unit_section(run))
    assert page.text.count("Unit 1 of layer<7>, trained to stand out") == 2
    assert len(page.sources) == 1 and "without-classes" in page.text
    rows = [row for row in page.rows if len(row) == 9 and row[0] == "masked"]
    assert rows[2] == ["masked", "100", "0.980", "0.800", "2.0000", "0.1000", "17", "2.0000", "0"]
    assert ["original", "0.930", "0.830"] in page.rows
    assert len([row for row in page.rows if row[0] == "restore" and len(row) == 3]) == 1
