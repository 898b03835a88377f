"""Charts and words of ClassMem show the tables' numbers."""

from pathlib import Path

import numpy as np
import pytest

from memlight.analyses import classmem
from memlight.analyses.classmem.chart import MOST_PANELS, classmem_by_layer, classmem_scatter
from memlight.analyses.classmem.section import class_section, classmem_words
from memlight.runs.log import AnalysisLog
from memlight.storage.rundir import RunDir
from memlight.storage.tables import Table
from tests.report.test_page import Reader
from tests.synthetic_run import LAYERS, unitmem_table

UNITMEM = unitmem_table(np.random.default_rng(0))
CLASSES: Table = {
    "class": np.arange(3),
    "class_name": np.array(["cat & dog", "fish", "0"]),
    "images": np.array([20, 31, 25]),
}


def table() -> Table:
    score = 0.4 * UNITMEM["unitmem"]
    units = {name: UNITMEM[name] for name in ("layer", "depth", "unit")}
    return units | {
        "classmem": score,
        "max_class": UNITMEM["unit"] % 3,
        "mu_max": 1 + score,
        "mu_rest": 1 - score,
    }


def layers(held_out: bool = True) -> Table:
    mean = np.linspace(0.1, 0.3, len(LAYERS))
    return {
        "layer": np.array(LAYERS),
        "depth": np.arange(len(LAYERS)),
        "units": np.full(len(LAYERS), 64),
        "dead": np.zeros(len(LAYERS), dtype=int),
        "mean": mean,
        "p95": mean + 0.1,
        "max": mean + 0.2,
        "null_mean": mean - 0.08,
        "null_p95": mean - 0.05,
        "held_out_mean": mean + 0.01 if held_out else np.full(len(LAYERS), np.nan),
        "unitmem_mean": mean + 0.3,
    }


@pytest.mark.parametrize("held_out", [True, False])
def test_layers_are_drawn_with_their_controls(held_out: bool) -> None:
    drawn = layers(held_out)
    (ax,) = classmem_by_layer(drawn).axes
    lines = {str(line.get_label()): np.asarray(line.get_ydata()) for line in ax.lines}
    shown = {"mean over units": "mean", "labels shuffled": "null_mean", "mean UnitMem": "unitmem_mean"}
    shown |= {"highest unit": "max", "95th percentile of units": "p95"}
    shown |= {"mean, held-out images": "held_out_mean"} if held_out else {}
    assert lines.keys() == shown.keys()
    for label, column in shown.items():
        np.testing.assert_array_equal(lines[label], drawn[column])
    (band,) = ax.collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == (drawn["null_mean"].min(), drawn["null_p95"].max())
    assert [tick.get_text() for tick in ax.get_xticklabels()] == list(LAYERS)


def test_each_living_unit_is_a_point_of_its_layer() -> None:
    axes = classmem_scatter(table(), UNITMEM).axes
    assert [ax.get_title(loc="left") for ax in axes] == list(LAYERS)
    for ax, name in zip(axes, LAYERS, strict=True):
        alive = (UNITMEM["layer"] == name) & ~UNITMEM["dead"]
        points = np.asarray(ax.collections[0].get_offsets())
        np.testing.assert_array_equal(points, np.stack([UNITMEM["unitmem"][alive], table()["classmem"][alive]], 1))
        assert f"{alive.sum()} units" in ax.texts[0].get_text()


def test_of_many_layers_some_are_drawn_and_one_of_dead_units_is_empty() -> None:
    names = np.array([f"blocks.{n}.norm2@in" for n in range(40)])
    unit = {"layer": names, "classmem": np.full(40, 0.5)}
    axes = classmem_scatter(unit, {"unitmem": np.full(40, 0.5), "dead": np.arange(40) == 39}).axes
    titles = [ax.get_title(loc="left") for ax in axes]
    assert len(titles) == MOST_PANELS and (titles[0], titles[-1]) == (names[0], names[39])
    assert len(axes[-1].collections[0].get_offsets()) == 0


def test_words_follow_the_numbers() -> None:
    assert classmem_words(layers(), CLASSES) == (
        "3 classes of 20 to 31 images. Mean ClassMem goes from 0.100 in layer1 to 0.300 in res6, where the same units "
        "score 0.220 with shuffled labels and on held-out images 0.310; their UnitMem is 0.600."
    )
    assert "held-out" not in classmem_words(layers(held_out=False), CLASSES)


def test_the_section_has_every_layer_and_the_top_units_by_the_name_of_their_class(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    assert class_section(run) == ""
    made = {"seed": 0, "split_sha256": None, "checkpoints": {}, "device": "CPU"}
    for tag in (None, "by-<colour>"):
        with AnalysisLog(run, classmem.ANALYSIS, tag=tag, logger="csv", **made) as log:
            log.table("table", table())
            log.table("layers", layers())
            log.table("classes", CLASSES)
            log.figure("by_layer", classmem_by_layer(layers()), "By layer & more.")
    page = Reader(class_section(run))
    assert len(page.sources) == 2 and all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert "by-<colour>" in page.text and "By layer & more." in page.text
    rows = [row for row in page.rows if len(row) == 10 and row[0] in LAYERS]
    assert [row[0] for row in rows] == [*LAYERS, *LAYERS]
    assert rows[0] == ["layer1", "64", "0", "0.100", "0.110", "0.020", "0.050", "0.200", "0.300", "0.400"]
    top = [row for row in page.rows if len(row) == 6][1:21]
    best = int(table()["classmem"].argmax())
    name = CLASSES["class_name"][table()["max_class"][best]]
    assert top[0][:4] == [UNITMEM["layer"][best], str(UNITMEM["unit"][best]), name, f"{table()['classmem'][best]:.4f}"]
    scores = [float(row[3]) for row in top]
    assert scores == sorted(scores, reverse=True)
