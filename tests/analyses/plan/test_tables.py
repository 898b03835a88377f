"""Plans from made-up runs: predicted against realised half-widths, where the variances come from, what is refused."""

from pathlib import Path

import numpy as np
import pytest

from memlight.analyses.layermem.columns import LAYERMEM_SAMPLES, LAYERMEM_TABLE
from memlight.analyses.plan import tables
from memlight.analyses.plan.chart import plan_chart
from memlight.analyses.plan.columns import PLAN_TABLE
from memlight.analyses.plan.command import PlanOptions
from memlight.analyses.plan.tables import (
    SCORE_SD,
    TRAINING_SHARE,
    components_of,
    make_plan,
    measure_run,
    shown,
)
from memlight.analyze import main
from memlight.stats import family
from memlight.stats.power import USUAL_VIEWS, independent_critical_value, view_factor
from memlight.storage.rundir import RunDir
from memlight.storage.tables import read_table, write_json, write_table
from tests.synthetic_run import splits_file, summary_file
from tests.test_bad_input import only_line

LAYERS = ["layer1", "layer2", "layer3"]
IMAGE, VIEW = 0.02**2, 0.025**2
"""Of what is planted: variance of a score between images, and what 10 views add to it."""


@pytest.fixture(autouse=True)
def few_relabellings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "RELABELLINGS", 500)


def made_run(
    root: Path, images: int, *, contrast: float = 0.003, views: tuple[int, ...] = (10,), seed: int = 0
) -> RunDir:
    """A run with a result of layermem for every number of views; the first one is the plain one."""
    run, generator = RunDir(root), np.random.default_rng(seed)
    write_json(run.splits, splits_file())
    for number, count in enumerate(views):
        spread = np.sqrt(IMAGE + VIEW * view_factor(count))
        shared = 0.9 * generator.standard_normal((2 * images, 1))
        scores = spread * (shared + np.sqrt(0.19) * generator.standard_normal((2 * images, len(LAYERS))))
        scores += np.repeat([contrast, -contrast], images)[:, None] * np.linspace(0, 1, len(LAYERS))
        found = family(scores[:images], scores[images:], 199)
        analysis = run.analysis("layermem", f"views{count}" if number else None)
        analysis.dir.mkdir(parents=True)
        write_json(analysis.summary, summary_file(command_line=f"analyze.py layermem --run x --views {count}"))
        rows = {
            "id": np.tile(np.arange(2 * images), len(LAYERS)),
            "split": np.tile(np.repeat(["candidate", "independent"], images), len(LAYERS)),
            "label": np.zeros(2 * images * len(LAYERS), dtype=int),
            "layer": np.repeat(LAYERS, 2 * images),
            "score": scores.T.ravel(),
        }
        rows |= {name: np.abs(scores.T.ravel()) for name in ("align_f", "align_g")}
        write_table(analysis.table("samples"), rows, LAYERMEM_SAMPLES)
        table = {name: np.zeros(len(LAYERS)) for name, column in LAYERMEM_TABLE.items() if column.kind is float}
        table |= {"contrast": found.contrast, "contrast_low": found.low, "contrast_high": found.high}
        places = {"layer": np.array(LAYERS), "depth": np.arange(len(LAYERS)), "n": np.full(len(LAYERS), images)}
        write_table(analysis.table(), {**table, **places}, LAYERMEM_TABLE)
    return run


def test_half_widths_of_other_sizes_and_views_are_predicted_within_15_per_cent(tmp_path: Path) -> None:
    first = made_run(tmp_path / "a", 300, views=(10, 40))
    others = [made_run(tmp_path / name, images, seed=images) for name, images in (("b", 900), ("c", 200))]
    plan = make_plan(0.002, [first, *others], PlanOptions())
    assert plan.runs["candidates"].tolist() == [300, 900, 200]
    np.testing.assert_allclose(plan.runs["predicted"], plan.runs["half_width"], rtol=0.15)
    assert plan.runs["half_width"][1] < 0.6 * plan.runs["half_width"][0]


def test_the_view_component_is_estimated_where_results_have_other_views(tmp_path: Path) -> None:
    run = made_run(tmp_path / "a", 1500, views=(10, 2, 40))
    parts, words = components_of([measure_run(run, None)], 0.002)
    assert (parts.image, parts.view) == pytest.approx((IMAGE, VIEW), rel=0.2)
    assert "estimated from results of layermem with 2, 10, 40 of them" in " ".join(words)
    alone, words = components_of([measure_run(made_run(tmp_path / "b", 1500), None)], 0.002)
    assert alone.score(10) == pytest.approx(parts.score(10), rel=0.1)
    assert alone.view == pytest.approx(0.6 * float(alone.score(10)))
    assert "assumed to make 60 % of that variance" in " ".join(words)


def test_results_of_other_encoders_or_scores_are_left_out(tmp_path: Path) -> None:
    run = made_run(tmp_path / "a", 50, views=(10, 40, 20))
    changed = {"command_line": "analyze.py layermem --views=20 --scale range"}
    write_json(run.analysis("layermem", "views20").summary, summary_file(**changed))
    assert [scores.views for scores in measure_run(run, None).scores] == [10, 40]
    write_json(run.analysis("layermem", "views40").summary, summary_file(checkpoints={"candidate": "12" * 32}))
    assert [scores.views for scores in measure_run(run, None).scores] == [10]


def test_trainings_that_differ_are_told_from_images(tmp_path: Path) -> None:
    runs = [
        measure_run(made_run(tmp_path / str(seed), 2000, contrast=contrast, seed=seed), None)
        for seed, contrast in enumerate((0.002, 0.006, 0.010))
    ]
    parts, words = components_of(runs, 0.003)
    assert np.sqrt(parts.training) == pytest.approx(0.003 * 0.004 / 0.006, rel=0.25)
    assert "3 runs differ in the true contrast" in words[-1]
    parts, words = components_of(runs[:1] * 2, 0.003)
    assert np.sqrt(parts.training) == pytest.approx(TRAINING_SHARE * 0.003)
    assert "so few runs cannot show that it is less than the 15 %" in words[-1]
    assert np.sqrt(components_of(runs[:1], 0.003)[0].training) == pytest.approx(TRAINING_SHARE * 0.003)


def test_without_runs_the_variances_are_built_in() -> None:
    plan = make_plan(0.002, [], PlanOptions())
    assert plan.components.score(USUAL_VIEWS) == pytest.approx(SCORE_SD**2)
    assert plan.critical == pytest.approx(independent_critical_value(10))
    assert (plan.table["power"] >= 0.8).all()
    ten = plan.table["candidates"][(plan.table["views"] == 10) & (plan.table["seeds"] == 1)]
    assert 1000 < ten[0] < 1200
    fewer = make_plan(0.002, [], PlanOptions(layers_count=1, sd=0.0125))
    assert (fewer.table["candidates"] < plan.table["candidates"] / 4).all()


def test_the_critical_value_of_runs_is_that_of_their_relabellings(tmp_path: Path) -> None:
    run = made_run(tmp_path / "a", 200)
    plan = make_plan(0.002, [run], PlanOptions(layer="layer2"))
    assert 1.96 < plan.critical < independent_critical_value(3)
    assert make_plan(0.002, [run], PlanOptions(layers_count=50)).critical == independent_critical_value(50)
    assert plan.layers["layer"].tolist() == LAYERS and plan.runs["layer"].tolist() == ["layer2"]


def test_the_text_has_a_row_for_views_and_a_column_for_seeds() -> None:
    table = make_plan(0.002, [], PlanOptions(views=(10, 2), seeds=(1, 3))).table
    table["candidates"][0] = np.inf
    lines = shown(table).splitlines()
    assert lines[0].split() == ["views", "1", "seed", "3", "seeds"]
    assert lines[1].split()[:2] == ["2", "-"] and lines[2].split()[0] == "10"


def test_the_chart_shows_the_tables_numbers(tmp_path: Path) -> None:
    plan = make_plan(0.002, [made_run(tmp_path / "a", 200)], PlanOptions())
    needed, detectable = plan_chart(plan.table, plan.layers, 0.002).axes
    seeds = [1, 2, 3, 5, 10]
    for line, count in zip(needed.lines, seeds, strict=True):
        np.testing.assert_array_equal(line.get_ydata(), plan.table["candidates"][plan.table["seeds"] == count])
    heights = [bar.get_height() for bar in detectable.patches]
    np.testing.assert_array_equal(heights, plan.layers["detectable"])


def test_the_command_prints_and_writes_where_it_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--effect=.002", "--views", "5", "10", f"--out={tmp_path / 'new' / 'plan.csv'}"]) == 0
    said = capsys.readouterr().out
    assert "for a contrast of 0.002" in said and "as if 10 layers were independent" in said
    table = read_table(tmp_path / "new" / "plan.csv", PLAN_TABLE)
    assert sorted(set(table["views"].tolist())) == [5, 10]


def test_with_a_run_the_plan_goes_beside_it_and_into_its_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [made_run(tmp_path / name, 100, seed=seed) for seed, name in enumerate("ab")]
    assert main(["plan", "--effect=.002", "--run", *(str(run.root) for run in runs)]) == 0
    said = capsys.readouterr().out
    assert "as the other runs predict it" in said
    from memlight.analyses.plan.section import plan_section

    html = plan_section(runs[0])
    assert "A contrast of 0.002 is planned. In layer3, the last layer" in html and plan_section(runs[1]) == ""


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--effect=0"], "--effect 0.0: must be above 0"),
        (["--effect=.1", "--power=.2"], "--power 0.2: must be at least .5"),
        (["--effect=.1", "--level=0"], "--level 0.0: must be between 0 and 1"),
        (["--effect=.1", "--views", "1"], "--views 1: must be 2 or more"),
        (["--effect=.1", "--seeds", "0"], "--seeds 0: must be 1 or more"),
        (["--effect=.1", "--layers-count=0"], "--layers-count 0: must be 1 or more"),
        (["--effect=.1", "--sd=0"], "--sd 0.0: must be above 0"),
        (["--effect=.1", "--layer=layer1"], "--layer layer1: is a layer of a run; name the run with --run"),
        (["--effect=.1", "--tag=x/y"], "--tag 'x/y': becomes part of a directory's name"),
        (["--effect=.1", "--run", "nowhere"], "--run nowhere: no such directory"),
    ],
)
def test_what_is_refused(flags: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *flags]) == 2
    assert only_line(capsys).startswith(words)


def test_runs_that_cannot_be_planned_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = made_run(tmp_path / "a", 20)
    for flags, words in (
        (["--layer=layer9"], f"--layer layer9: {run.root} has not measured it; choose one of layer1, layer2, layer3"),
        (["--sd=.1"], "--sd 0.1: the runs give it; leave out --run or this"),
    ):
        assert main(["plan", "--effect=.1", "--run", str(run.root), *flags]) == 2
        assert only_line(capsys).startswith(words)
    write_json(RunDir(tmp_path / "new").splits, splits_file())
    assert main(["plan", "--effect=.1", "--run", str(tmp_path / "new")]) == 2
    line = only_line(capsys)
    assert "samples.csv, whose scores this command reads; make it with `python analyze.py layermem" in line
