"""Charts and words of exchanged layers show the tables' numbers."""

from pathlib import Path

import numpy as np
import pytest

from memlight.analyses.exchange import ANALYSIS
from memlight.analyses.exchange import chart as exchange
from memlight.analyses.exchange.chart import exchange_accuracy, exchange_layermem
from memlight.analyses.exchange.columns import EXCHANGE_EFFECTS, EXCHANGE_LAYERS, EXCHANGE_TABLE
from memlight.analyses.exchange.section import exchange_section, exchange_words
from memlight.analyses.verdicts import against_untreated
from memlight.runs.log import AnalysisLog
from memlight.storage.rundir import RunDir
from memlight.storage.schema import required
from memlight.storage.tables import Table, table_of
from tests.report.test_page import Reader

DATASETS = ("animals", "shoes & hats")


def effects(subsets: int, forms: int = 2) -> Table:
    """Exchanges cost 1, 2, 3 ... % on the first data set and half of it, with the other sign, on the second."""
    names = ["none", "donor", *(f"layer{n}" if n < 9 else f"layer{n},layer8" for n in range(1, subsets + 1))]
    rows = [
        (name, dataset, form, 0.7 - drop, drop, drop - 0.004, drop + 0.006, 0.5, 300, 290)
        for form in (False, True)[:forms]
        for position, name in enumerate(names)
        for side, dataset in enumerate(DATASETS)
        for drop in [0.3 if name == "donor" else max(0, position - 1) * (0.01, -0.005)[side] / (1 + form)]
    ]
    return against_untreated(table_of(required(EXCHANGE_EFFECTS), rows), ("none", "donor"))


def layers(table: Table) -> Table:
    rows = []
    for form in dict.fromkeys(table["recalibrated"].tolist()):
        for position, name in enumerate(dict.fromkeys(table["layers"].tolist())):
            if name in ("none", "donor"):
                continue
            parts = name.split(",")
            for place, layer in enumerate([*parts, *(["mean"] if len(parts) > 1 else [])]):
                score = 0.01 * position + 0.1 * place
                rows.append((name, layer, form, score, -score, *(score, score - 0.002, score + 0.002),
                             *(-score, -score - 0.001, 0.001 - score)))  # fmt: skip
    return {column: np.array(cells) for column, cells in zip(EXCHANGE_LAYERS, zip(*rows, strict=True), strict=True)}


def plain_minus(text: str) -> str:
    return text.replace("\N{MINUS SIGN}", "-")


def rows_named(ax: object) -> list[str]:
    return [tick.get_text() for tick in ax.get_yticklabels()]  # type: ignore[attr-defined]


def test_accuracy_is_drawn_with_the_interval_of_the_difference_and_the_least_costly_first() -> None:
    table = effects(4)
    order = np.array([2, 1, 0, 3])  # the table's order is not that of the drops
    swapped = {**table, "layers": table["layers"].copy()}
    for start in (4, 16):
        swapped["layers"][start : start + 8] = np.repeat(table["layers"][4:12:2][order], 2)
    left, right = exchange_accuracy(swapped).axes
    assert rows_named(left) == ["layer3", "layer2", "layer1", "layer4"]
    for ax, dataset in ((left, DATASETS[0]), (right, DATASETS[1])):
        assert dataset in ax.get_title(loc="left")
        plain = (swapped["dataset"] == dataset) & ~swapped["recalibrated"]
        top1 = 100 * swapped["top1"][plain]
        assert ax.lines[0].get_xdata() == pytest.approx([top1[0]] * 2)  # none
        assert ax.lines[1].get_xdata() == pytest.approx([top1[1]] * 2)  # donor
        points = ax.containers[0]
        assert points[0].get_xdata() == pytest.approx(top1[2:])
        bounds = np.array([segment[:, 0] for segment in points[2][0].get_segments()])
        none = top1[0]
        assert bounds[:, 0] == pytest.approx(none - 100 * swapped["drop_high"][plain][2:])
        assert bounds[:, 1] == pytest.approx(none - 100 * swapped["drop_low"][plain][2:])
        assert len(ax.containers) == 2
        thin = np.array([segment[:, 0] for segment in ax.collections[0].get_segments()])
        assert thin[:, 0] == pytest.approx(none - 100 * swapped["drop_simultaneous_high"][plain][2:])
        assert thin[:, 1] == pytest.approx(none - 100 * swapped["drop_simultaneous_low"][plain][2:])


def test_layermem_is_drawn_before_and_after_and_of_several_layers_the_mean() -> None:
    table = layers(effects(10, forms=1))
    published, contrast = exchange_layermem(table).axes
    drawn = [list(table["layers"]).index(name) + (2 if "," in name else 0) for name in dict.fromkeys(table["layers"])]
    for ax, name in ((published, "layermem"), (contrast, "contrast")):
        before, after = ax.containers
        assert before[0].get_xdata() == pytest.approx(table[f"{name}_before"][drawn])
        assert after[0].get_xdata() == pytest.approx(table[f"{name}_after"][drawn])
    assert rows_named(published) == [name.replace(",layer", ",") for name in dict.fromkeys(table["layers"].tolist())]
    low = [segment[0, 0] for segment in contrast.containers[1][2][0].get_segments()]
    assert low == pytest.approx(table["contrast_after_low"][drawn])


def test_names_of_subsets_are_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "LONGEST_ROW", 12)
    assert exchange._short("layer4,layer6,layer10") == "layer4,6,10"
    assert exchange._short("a1,b2") == "a1,b2"
    assert exchange._short("blocks.3,blocks.4.mlp") == "…locks.4.mlp"


def test_of_very_many_subsets_the_first_and_the_last_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memlight.analyses.exchange.chart.MOST_ROWS", 4)
    ax = exchange_accuracy(effects(7)).axes[0]
    assert rows_named(ax) == ["layer1", "layer2", "layer6", "layer7"]
    assert "(the first and the last 2 of 7)" in ax.get_ylabel()


def test_words_follow_the_numbers() -> None:
    table = effects(2)
    copies = ~np.isin(table["layers"], ["none", "donor"])
    table["p_adjusted"] = np.where(copies, np.where(np.abs(table["drop"]) > 0.009, 0.04, 0.2), np.nan)
    table["drop_simultaneous_low"], table["drop_simultaneous_high"] = table["drop"] - 0.008, table["drop"] + 0.009
    assert plain_minus(exchange_words(table)) == (
        "On animals the unexchanged encoder classifies 70.0 % of the test images correctly, the donor 40.0 %. "
        "Accuracy fell in 2 of 2 exchanges and rose in 0 (8 comparisons tested together at a family-wise 5 %, "
        "intervals too); exchanging layer2 changed it by -2.0 points (-2.9 to -1.2), exchanging layer1 changed it by "
        "-1.0 points (-1.9 to -0.2). On shoes & hats the unexchanged encoder classifies 70.0 % of the test images "
        "correctly, the donor 40.0 %. Accuracy fell in 0 of 2 exchanges and rose in 1 (8 comparisons tested "
        "together at a family-wise 5 %, intervals too); exchanging layer1 changed it by +0.5 points (-0.4 to 1.3), "
        "exchanging layer2 changed it by +1.0 points (0.1 to 1.8)."
    )


@pytest.mark.parametrize("forms", [1, 2])
def test_the_section_has_a_row_for_every_encoder(tmp_path: Path, forms: int) -> None:
    run, table = RunDir(tmp_path), effects(3, forms)
    assert exchange_section(run) == ""
    plain = {name: column[~table["recalibrated"]] for name, column in table.items()}
    scores = np.where(np.isin(plain["layers"], ["none", "donor"]), np.nan, 0.125)
    fixed = (plain["layers"], plain["dataset"], plain["top1"], scores, -scores)
    made = {"seed": 0, "split_sha256": None, "checkpoints": {}, "device": "CPU"}
    with AnalysisLog(run, ANALYSIS, tag="<b>", logger="csv", **made) as log:
        log.table("table", dict(zip(EXCHANGE_TABLE, fixed, strict=True)))
        log.table("effects", table)
        log.table("layers", layers(table))
        log.figure("accuracy", exchange_accuracy(table), "Both & more.")
    page = Reader(exchange_section(run))
    assert "<b>" in page.text and "Both & more." in page.text
    rows = [row for row in page.rows if row[0] == "layer2"]
    assert len(rows) == 1 + (forms - 1) + forms
    p = [f"{value:.4f}" for value in table["p_adjusted"][(table["layers"] == "layer2") & ~table["recalibrated"]]]
    scores = ["68.00", "-2.00", "-2.60 to -1.60", p[0], "71.00", "1.00", "0.40 to 1.40", p[1], "0.1250", "-0.1250"]
    assert [plain_minus(cell) for cell in rows[0]] == ["layer2", *scores]
    assert [row[1] for row in page.rows if row[0] == "donor"] == ["40.00"] * forms
