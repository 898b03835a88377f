"""Tables of sequence experiments against plain loops, and the command from a run's files to its page."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib import rc_context
from matplotlib.figure import Figure
from scipy import stats

from memlight.analyses.sequence import ANALYSIS, columns
from memlight.analyses.sequence.experiment import (
    ATTENTION,
    Experiment,
    difference_of_means,
    opened,
    over_members,
    set_ceilings,
)
from memlight.analyses.sequence.study import study_sequence
from memlight.analyses.sequence.tables import (
    MOST_BINS,
    attention_rows,
    curves_table,
    forgetting_table,
    keys,
    members_table,
    rank_groups,
    rank_time_table,
    ranks_table,
    savings_table,
)
from memlight.analyze import main
from memlight.errors import UserError
from memlight.sequences.results import SequenceResults
from memlight.storage.rundir import RunDir
from memlight.storage.tables import Table, read_json, read_table, write_table
from tests.report.test_page import Reader
from tests.schemas import schema_of
from tests.sequence_runs import sequence_results, write_sequence_run


@pytest.fixture(scope="module", autouse=True)
def _coarse_pictures() -> Iterator[None]:
    """Figures of few points are written much faster."""
    with rc_context({"savefig.dpi": 30}):
        yield


def experiment(**made: float) -> Experiment:
    return Experiment("run", sequence_results(**made))  # type: ignore[arg-type]


def test_mean_and_interval_over_members_are_those_of_scipy() -> None:
    values = np.random.default_rng(0).normal(0.7, 0.1, (5, 2, 3))
    values[0, 0, 0], values[:4, 1, 1], values[:, 1, 2] = np.nan, np.nan, np.nan
    mean, low, high = over_members(values)
    for place in np.ndindex(2, 3):
        known = [value for value in values[(slice(None), *place)] if np.isfinite(value)]
        if len(known) < 2:
            assert np.isnan(low[place]) and np.isnan(high[place])
            assert np.array_equal(mean[place], np.mean(known) if known else np.nan, equal_nan=True)
        else:
            expected = stats.t.interval(0.95, len(known) - 1, np.mean(known), stats.sem(known))
            np.testing.assert_allclose((low[place], high[place]), expected)
            np.testing.assert_allclose(mean[place], np.mean(known))


def test_difference_of_means_is_welchs() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(1, 2, 9), np.array([*rng.normal(0, 1, 5), np.nan])
    expected = stats.ttest_ind(a, b[:5], equal_var=False).confidence_interval()
    value, low, high = difference_of_means(a, b)
    np.testing.assert_allclose((low, high), (expected.low, expected.high))
    assert value == pytest.approx(a.mean() - b[:5].mean())
    assert np.isnan(difference_of_means(a, b[:1])[1:]).all() and np.isnan(difference_of_means(a, b[5:])).all()
    assert difference_of_means(np.ones(3), np.zeros(3)) == (1, 1, 1)


def test_phases_end_before_the_next_begins() -> None:
    found = experiment(sets=3)
    assert [
        found.results.eval_steps[found.phase(index)].tolist()[:: len(found.phase(index)) - 1] for index in (0, 1)
    ] == [
        [0, 1000],
        [1100, 2000],
    ]
    assert [(found.begins(index), found.ends(index)) for index in range(3)] == [(0, 1000), (1000, 2000), (2000, 3000)]
    assert found.results.eval_steps[found.seen(1)].tolist() == list(range(1100, 3001, 100))


def test_steps_to_criterion_and_savings_against_loops() -> None:
    run, control = experiment(), Experiment("control", sequence_results(speed=1.2, seed=3))
    for one in (run, control):
        one.results.set_accuracy[1, 1] = np.where(np.isnan(one.results.set_accuracy[1, 1]), np.nan, 0.5)

    def steps(one: Experiment, member: int, index: int) -> float:
        for at, step in enumerate(one.results.eval_steps.tolist()):
            reached = one.results.set_accuracy[member, index, at] >= 0.5 + 0.8 * (0.93 - 0.5)
            if one.begins(index) <= step <= one.ends(index) and reached:
                return float(step - one.begins(index))
        return float("nan")

    table = savings_table([run, control], 0.8)
    saved = {}
    for one in (run, control):
        by_member = np.array([[steps(one, member, index) for index in (0, 1)] for member in range(6)])
        saved[one.name] = [1 - later / first for first, later in by_member if np.isfinite(later)]
        row = np.flatnonzero((table["run"] == one.name) & (table["set"] == 1))[0]
        assert (table["reached"][row], table["members"][row]) == (5, 6)
        np.testing.assert_allclose(table["savings"][row], np.mean(saved[one.name]))
        np.testing.assert_allclose(table["steps"][row], np.nanmean(by_member[:, 1]))
    np.testing.assert_allclose(table["difference"][3], np.mean(saved["run"]) - np.mean(saved["control"]))
    assert np.isnan(table["difference"][:3]).all()
    members = members_table([run], 0.8)
    assert np.isnan(members["savings"][members["set"] == 0]).all() and np.isnan(members["steps"]).sum() == 1


def test_forgetting_is_what_is_left_at_the_end_of_every_phase() -> None:
    found = experiment(sets=4, members=3)
    table = forgetting_table([found])
    assert list(zip(table["after"].tolist(), table["set"].tolist(), strict=True)) == [
        (after, index) for after in range(4) for index in range(after + 1)
    ]
    own = table["after"] == table["set"]
    np.testing.assert_allclose(table["retained"][own], 1)
    np.testing.assert_allclose(table["retained"][~own], 0.3)
    for row in range(len(own)):
        at = found.results.eval_steps.tolist().index(1000 * (table["after"][row] + 1))
        accuracy = found.results.set_accuracy[:, table["set"][row], at].mean()
        np.testing.assert_allclose(table["accuracy"][row], accuracy)


@pytest.mark.parametrize("zipf", [False, True])
def test_bits_per_parameter_count_every_sequence(zipf: bool) -> None:
    found = experiment(sets=2, members=3, zipf=zipf)
    results = found.results
    parameters = 3 * 8 * 7 // 2 + 3 * 8  # A: for n = 0 to 7 bits seen, 3 heads weigh n of them; B: 3 heads weigh 8
    assert found.used_parameters == parameters
    at = {0: results.eval_steps.tolist().index(1000), 1: results.eval_steps.tolist().index(2000)}
    assert results.set_loss_unweighted is not None
    for index in (0, 1):
        for member in range(3):
            loss = results.set_loss_unweighted[member, index, at[index]]
            expected = 200 * 7 * (1 - loss / np.log(2)) / parameters
            assert found.bits_per_parameter(index)[member] == pytest.approx(expected)
    old = experiment(sets=2, members=3, zipf=zipf)  # a run of an older version
    old.results.set_loss_unweighted = None
    if zipf:  # only the test sequences are known without weights
        tested = old.results.test_loss[:, 1, at[1]].mean(axis=-1)
        np.testing.assert_allclose(old.bits_per_parameter(1), 200 * 7 * (1 - tested / np.log(2)) / parameters)
    else:
        np.testing.assert_allclose(old.bits_per_parameter(1), found.bits_per_parameter(1))


def test_curves_have_a_row_for_every_evaluation_of_a_set_that_exists() -> None:
    table = curves_table([experiment(sets=2), experiment(members=1, memory=False)])
    rows = (table["set"] == 1) & (table["run"] == "run")
    assert table["since_switch"][rows].tolist() == list(range(100, 1001, 100)) * 2
    assert table["trained"][rows].all() and not table["trained"][table["since_switch"] > 1000].any()
    alone = np.isnan(table["accuracy_low"])
    assert alone.sum() == 31 and np.isnan(table["retrieval"][alone]).all()


def test_ranks_are_grouped_without_loss() -> None:
    for logarithmic in (True, False):
        for count in (1, 7, 50, 1000):
            groups = rank_groups(np.arange(count) * 10, logarithmic=logarithmic)
            assert np.concatenate(groups).tolist() == list(range(count))
            assert len(groups) <= MOST_BINS
    assert rank_groups(np.arange(0), logarithmic=False) == []
    assert experiment(zipf=True).drawn_unevenly and not experiment().drawn_unevenly
    found = experiment(zipf=True, members=2)
    table = rank_time_table(found)
    first = (table["step"] == 300) & (table["rank_low"] == 0)
    np.testing.assert_allclose(table["accuracy"][first], found.results.test_accuracy[:, 0, 3, 0].mean())
    ranks = ranks_table([found])
    found.results.test_accuracy[0, 1, :, 1] = 0.5
    merged = ranks_table([found], grouped=True)
    groups = rank_groups(found.results.test_rank, logarithmic=True)
    assert len(groups) < 20
    for at, rows in enumerate(groups):
        assert merged["rank"][at] == ranks["rank"][:20][rows].mean()
        np.testing.assert_allclose(merged["accuracy"][at], ranks["accuracy"][:20][rows].mean())
    assert ranks["saturated"].max() == 1 and (np.diff(ranks["appearances"][:20]) <= 0).all()


def test_ceilings_by_position_and_rank_are_those_of_every_members_own_set() -> None:
    found = experiment(zipf=True, members=2)
    bits = np.random.default_rng(5).integers(0, 2, (2, 200, 8)).astype(np.uint8)
    found.results.sequences[0] = bits
    law = 1 / np.arange(1, 201)
    right = np.zeros((2, 200, 8))
    for member, row, n in np.ndindex(right.shape):
        alike = (bits[member, :, :n] == bits[member, row, :n]).all(axis=1)
        ones = law[alike & (bits[member, :, n] == 1)].sum() > law[alike].sum() / 2
        right[member, row, n] = ones == bits[member, row, n]
    ceilings = set_ceilings(found, 0)
    np.testing.assert_allclose(ceilings.by_position_N, (right * law[:, None]).sum(axis=1).mean(axis=0) / law.sum())
    np.testing.assert_allclose(ceilings.by_rank_R, right[:, ::10, 1:].mean(axis=(0, 2)))
    found.results.args = {"eta": 10.0}
    assert np.isnan(set_ceilings(found, 0).by_rank_R).all()


def test_attention_rows_are_softmax_over_the_prefix() -> None:
    logits = torch.randn(2, 5, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rows = attention_rows(logits.numpy())
    assert rows.shape == (2, 3, 5, 5) and np.isnan(rows[:, :, 0]).all()
    for n in range(1, 5):
        expected = logits[:, n, :, :n].softmax(-1).numpy()
        np.testing.assert_allclose(rows[:, :, n, :n], expected, rtol=1e-12)
        assert np.isnan(rows[:, :, n, n:]).all()
    tied = attention_rows(logits[:, 0].numpy())
    np.testing.assert_allclose(tied[:, :, 3, :3], logits[:, 0, :, :3].softmax(-1).numpy(), rtol=1e-12)
    np.testing.assert_allclose(keys(logits[:, 0].numpy()), logits[:, 0].softmax(-1).numpy(), rtol=1e-12)


def test_only_numbers_that_are_used_count_as_parameters() -> None:
    found = experiment()
    assert found.used_parameters == 3 * (0 + 1 + 2 + 3 + 4 + 5 + 6 + 7) + 3 * 8
    found.results.weights = {5: {"head": np.zeros((6, 4, 2)), ATTENTION: np.zeros((6, 1, 2, 8, 8))}}
    assert found.used_parameters == 8
    found.results.weights = {}
    assert found.used_parameters is None


@pytest.fixture(scope="module")
def analysed(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A run with its control, analysed and reported by the command lines a user types."""
    root = tmp_path_factory.mktemp("runs")
    run = write_sequence_run(root / "dam_switch", sequence_results())
    control = write_sequence_run(root / "reset", sequence_results(speed=1.2, seed=1))
    assert main(["sequence", "--run", str(run), "--compare", str(control), "--logger", "csv"]) == 0
    assert main(["report", "--run", str(run)]) == 0
    return RunDir(run)


def test_the_command_leaves_every_table_and_figure(analysed: RunDir) -> None:
    analysis = analysed.analysis("sequence")
    for name in ("table", "sets", "members", "training", "ranks", "appearances", "rank_time", "learned", "positions",
                 "forgetting", "savings", "weights", "probes", "swaps"):  # fmt: skip
        read_table(analysis.table(name), getattr(columns, name.upper()))
    summary = read_json(analysis.summary, dict)
    drawn = {path.stem for path in analysis.figures.glob("*.png")}
    assert drawn == set(summary["figures"])
    assert drawn == {
        "switches",
        "time",
        "runs",
        "positions",
        "ranks",
        "rank_time",
        "forgetting",
        "savings",
        "attention",
        "keys",
    }
    sets = read_table(analysis.table("sets"), columns.SETS)
    assert summary["headline"]["accuracy/last"] == sets["accuracy"][1]
    assert summary["headline"]["savings/last"] == pytest.approx(0.4833, abs=1e-4)


def test_the_page_has_no_words_about_encoders(analysed: RunDir) -> None:
    page = Reader(analysed.report.read_text(encoding="utf-8"))
    text = page.text.replace("\N{NO-BREAK SPACE}", " ")
    assert "What dam_switch learned" in text and "6 members trained together, 2 sequence sets" in text
    assert "savings 0.48 (95 % interval 0.44 to 0.53). They exceed those of reset by 0.45" in text
    assert "30 % of what was learned" in text and "data_switch" in text and "SequenceModule" in text
    assert not any(word in text for word in ("encoder", "candidate", "LayerMem", "splits", "images/s"))
    assert ["dam_switch", "1", "6 of 6", "217", "174 to 260", "0.483", "0.440 to 0.526"] in page.rows


class Tables:
    """Takes what a study writes; figures are made, and not drawn."""

    def __init__(self) -> None:
        self.tables: dict[str, Table] = {}

    def table(self, name: str, table: Table) -> None:
        assert list(table) == list(ANALYSIS.tables[name])
        self.tables[name] = table

    def figure(self, name: str, figure: Figure, caption: str) -> None:
        assert figure.axes and caption

    def headline(self, numbers: dict[str, object]) -> None:
        assert all(np.isfinite(value) for value in numbers.values() if isinstance(value, float))


def test_the_same_files_give_the_same_tables(analysed: RunDir, tmp_path: Path) -> None:
    paths = [analysed.root, analysed.root.parent / "reset"]
    log = Tables()
    study_sequence([Experiment(path.name, SequenceResults.read(path)) for path in paths], 0.8, log)  # type: ignore[arg-type]
    for name, table in log.tables.items():
        write_table(tmp_path / "again.csv", table, schema_of(table))
        assert (tmp_path / "again.csv").read_bytes() == analysed.analysis("sequence").table(name).read_bytes()


def test_one_member_without_memory_or_switch(tmp_path: Path) -> None:
    results = sequence_results(members=1, sets=1, memory=False, zipf=True)
    attention = np.tril(np.ones((1, 2, 2, 7, 7))) / np.arange(1, 8)[:, None]
    results.weights = {1000: {"head.weight": np.zeros((1, 2, 4)), ATTENTION: attention}}
    run = RunDir(write_sequence_run(tmp_path / "zipf", results))
    assert main(["report", "--run", str(run.root)]) == 0
    assert "Make it with python analyze.py sequence" in Reader(run.report.read_text(encoding="utf-8")).text
    assert main(["sequence", "--run", str(run.root), "--logger", "csv"]) == 0
    assert main(["report", "--run", str(run.root)]) == 0
    text = Reader(run.report.read_text(encoding="utf-8")).text
    assert "One member, so no interval. The first set is predicted with accuracy" in text
    assert "no switch, no intervention" in text and "avings are" not in text.split("controls.")[1]
    drawn = {path.stem for path in run.analysis("sequence").figures.glob("*.png")}
    assert drawn == {"switches", "time", "positions", "ranks", "rank_time", "attention"}


def test_swaps_and_probes_are_shown(tmp_path: Path) -> None:
    results = sequence_results(sets=2, members=3, memory=False)
    results.swap_steps, results.swap_names = np.array([2000, 2000]), ["mlp+head@1000", "c_attn@1000"]
    results.swap_accuracy = np.full((3, 2, 2), 0.8) + np.arange(3)[:, None, None] / 100
    results.swap_loss = np.zeros((3, 2, 2))
    results.relearn_steps = np.array([1000, 2000])
    results.relearn_needed = np.array([[100, 50], [120, np.nan], [110, 60]])
    results.relearn_accuracy = np.full((3, 2), 0.95)
    run = RunDir(write_sequence_run(tmp_path / "swap", results))
    assert main(["sequence", "--run", str(run.root), "--logger", "csv"]) == 0
    assert main(["report", "--run", str(run.root)]) == 0
    page = Reader(run.report.read_text(encoding="utf-8"))
    assert ["swap", "mlp+head@1000", "2000", "0", "0.810", "0.785 to 0.835", "0.620"] in page.rows
    assert [row[2:4] for row in page.rows if row[0] == "swap" and "of 3" in row[2]][-2:] == [
        ["3 of 3", "110.0"],
        ["2 of 3", "55.0"],
    ]
    assert (run.analysis("sequence").figures / "interventions.png").is_file()


def test_bad_input_names_its_flag(analysed: RunDir, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, empty = str(analysed.root), tmp_path / "empty"
    empty.mkdir()
    (tmp_path / "notes.txt").write_text("x")
    for flags, said in (
        (["--run", str(empty)], f"--run {empty}: no results.npz"),
        (["--run", run, "--compare", str(empty)], f"--compare {empty}: no results.npz"),
        (["--run", run, "--compare", str(tmp_path / "notes.txt")], "neither a run directory nor a result file"),
        (["--run", run, "--compare", str(tmp_path / "gone.pkl")], "gone.pkl: no such file"),
        (["--run", run, "--learned", "1.5"], "--learned 1.5: must be above 0 and at most 1"),
    ):
        assert main(["sequence", *flags, "--logger", "csv"]) == 2
        assert said in capsys.readouterr().err
    for command in ("layermem", "probe"):
        assert main([command, "--run", run, "--logger", "csv"]) == 2
        assert "an experiment on sequences; `analyze.py sequence` measures it" in capsys.readouterr().err
    with pytest.raises(UserError, match="an experiment on sequences"):
        RunDir.open(run)


def test_runs_of_one_name_are_told_apart(analysed: RunDir) -> None:
    names = ["reset"]
    for _ in range(2):
        names.append(opened(analysed.root.parent / "reset", names).name)
    assert names == ["reset", "reset (2)", "reset (3)"]


def test_results_come_back_from_disk_as_they_were(tmp_path: Path) -> None:
    made = sequence_results()
    read = SequenceResults.read(write_sequence_run(tmp_path / "run", made))
    for step, (one, other) in {step: (made.weights[step], read.weights[step]) for step in made.weights}.items():
        assert step in (1000, 2000) and all(np.array_equal(one[name], other[name]) for name in one)
    assert all(a < b for a, b in pairwise(read.eval_steps.tolist()))
