"""`analyze.py report --runs`: mean and spread over repetitions against loops over the runs, and every mistake."""

import math
import re
import shlex
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from memlight.analyses.verdicts import holm
from memlight.analyze import COMMANDS, main
from memlight.commands import build_parser
from memlight.report.compare.repeats_page import agreement_words
from memlight.report.compare.runs import REPEATS_AGREEMENT, REPEATS_LAYERS, REPEATS_NUMBERS, open_runs
from memlight.storage.rundir import RunDir
from memlight.storage.tables import Table, read_table
from tests.compared_runs import (
    LAYERS,
    add_layermem,
    add_probe,
    add_samples,
    add_unitmem,
    config,
    edit_json,
    make_run,
    write_analysis,
)
from tests.report.test_page import Reader
from tests.tiny_pair import ROOT, environment

SEEDS = (0, 1, 2)
CONTRAST = {seed: [0.0, 0.001 * seed, 0.002, 0.02 + 0.0001 * seed, 0.001 * seed**2 - 0.0005] for seed in SEEDS}
ACCURACY = {seed: 0.4 + seed / 10 for seed in SEEDS}
IMAGES = {"candidate": 120, "external": 60}


def scores_of(seed: int) -> dict[str, np.ndarray]:
    """Scores by split, (layer, image): candidates score alike in all runs in the last layer, the others by chance."""
    rng, shared = np.random.default_rng(seed), np.random.default_rng(99).normal(size=120)
    scores = {split: rng.normal(size=(len(LAYERS), count)) for split, count in IMAGES.items()}
    scores["candidate"][-1] = shared + 0.3 * scores["candidate"][-1]
    return scores


def make_repeat(root: Path, seed: int) -> RunDir:
    """A made-up run with everything that is repeated."""
    run = make_run(root, config(seed=seed))
    add_layermem(run, CONTRAST[seed])
    add_samples(run, scores_of(seed))
    add_unitmem(run, [0.3, 0.3, 0.4, 0.5, 0.6 + seed / 100])
    add_probe(run, knn=ACCURACY[seed], linear=0.7)
    edit_json(run.analysis("probe").summary, headline={"knn_top1/candidate": ACCURACY[seed], "encoder": "resnet9"})
    write_analysis(run, "prune", {})
    edit_json(
        run.analysis("prune").summary, headline={"drop": 0.01 * seed, "of_seed": None if seed else 0.5, "ok": True}
    )
    return run


@pytest.fixture(scope="module")
def repeats(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Three runs to read."""
    root = tmp_path_factory.mktemp("repeats")
    return [str(make_repeat(root / f"s{seed}", seed).root) for seed in SEEDS]


@pytest.fixture
def _undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the figures: drawing takes longest."""
    monkeypatch.setattr("memlight.report.compare.repeats_page._figures", lambda *_: {})


def page_of(*argv: str) -> Reader:
    """The page that ``analyze.py report --runs`` makes in ``--out``."""
    assert main(["report", *argv]) == 0
    return Reader((Path(argv[argv.index("--out") + 1]) / "repeats.html").read_text(encoding="utf-8"))


def error_of(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """The one line that ``analyze.py report`` refuses with."""
    assert main(["report", *argv]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def assert_spread(table: Table, row: int, values: list[float]) -> None:
    """Mean, Student's t interval, lowest and highest by the book."""
    mean = statistics.mean(values)
    expected = [len(values), mean, min(values), max(values)]
    assert [table[name][row] for name in ("runs", "mean", "lowest", "highest")] == pytest.approx(expected)
    error = statistics.stdev(values) / math.sqrt(len(values))
    ends = stats.t.interval(0.95, len(values) - 1, mean, error) if error else (mean, mean)
    assert (table["mean_low"][row], table["mean_high"][row]) == pytest.approx(ends)


# The page and its files


def test_the_page_has_mean_and_spread_and_fetches_nothing(repeats: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    page = page_of("--runs", *repeats, "--out", str(out))
    pictures = [source for source in page.sources if not source.startswith("#")]
    assert len(pictures) == 2 and all(source.startswith("data:image/png;base64,") for source in pictures)
    text = page.text.replace("\N{NO-BREAK SPACE}", " ")
    assert "The runs differ in seed alone. All have the same splits" in text
    together = "5 layers tested together at a family-wise 5 %"
    assert f"Mean of 3 runs, tested over runs by Student's t ({together}). Memorisation is measured in layer4" in text
    minus = "\N{MINUS SIGN}"
    (layer5,) = [row for row in page.rows if row[0] == "layer5" and len(row) == 8 - 1]
    assert layer5[1].startswith(f"0.0012 [{minus}0.00") and layer5[1].endswith(f"], {minus}0.0005 to 0.0035")
    assert ["probe", "knn_top1/candidate", "0.5000"] in [row[:3] for row in page.rows]
    assert ["prune", "drop", "0.0100"] in [row[:3] for row in page.rows]
    assert "Every run has the contrast, UnitMem and accuracies." in text
    tables = ["agreement.csv", "layers.csv", "numbers.csv", "runs.csv", "runs_layers.csv"]
    files = sorted(str(path.relative_to(out)) for path in out.rglob("*.*"))
    assert files == sorted([*tables, "figures/agreement.png", "figures/by_layer.png", "repeats.html"])


@pytest.mark.usefixtures("_undrawn")
def test_every_number_is_the_mean_over_runs_with_its_spread(repeats: list[str], tmp_path: Path) -> None:
    page_of("--runs", *repeats, "--out", str(tmp_path / "out"))
    layers = read_table(tmp_path / "out" / "layers.csv", REPEATS_LAYERS)
    for depth, layer in enumerate(LAYERS):
        for number, values in (
            ("contrast", [CONTRAST[seed][depth] for seed in SEEDS]),
            ("layermem", [CONTRAST[seed][depth] + 0.1 for seed in SEEDS]),
        ):
            (row,) = np.flatnonzero((layers["layer"] == layer) & (layers["number"] == number))
            assert layers["depth"][row] == depth
            assert_spread(layers, row, values)
    tested = layers["number"] == "contrast"
    errors = np.array([statistics.stdev([CONTRAST[seed][n] for seed in SEEDS]) for n in range(5)]) / math.sqrt(3)
    moved = errors > 0
    p = 2 * stats.t.sf(np.abs(layers["mean"][tested][moved]) / errors[moved], 2)
    np.testing.assert_allclose(layers["p_adjusted"][tested][moved], holm(p), rtol=1e-6)
    half = stats.t.ppf(1 - 0.025 / moved.sum(), 2) * errors[moved]
    np.testing.assert_allclose((layers["mean_simultaneous_high"] - layers["mean"])[tested][moved], half)
    assert np.isnan(layers["p_adjusted"][tested][~moved]).all()  # where all runs are equal
    assert np.isnan(layers["p_adjusted"][layers["number"] == "layermem"]).all()  # whose 0 means nothing
    assert set(layers["number"]) == {"contrast", "layermem", "unitmem", "null", "unit_contrast", "own_max_share"}
    numbers = read_table(tmp_path / "out" / "numbers.csv", REPEATS_NUMBERS)
    assert list(zip(numbers["analysis"].tolist(), numbers["number"].tolist(), strict=True)) == [
        ("probe", "knn_top1/candidate"),
        ("prune", "drop"),
    ]
    assert_spread(numbers, 0, list(ACCURACY.values()))
    assert_spread(numbers, 1, [0.01 * seed for seed in SEEDS])


@pytest.mark.usefixtures("_undrawn")
def test_rankings_of_every_two_runs_are_compared_by_id(repeats: list[str], tmp_path: Path) -> None:
    paths = [str(shutil.copytree(path, tmp_path / Path(path).name)) for path in repeats]
    samples = RunDir(Path(paths[1])).analysis("layermem").table("samples")
    header, *rows = samples.read_text().splitlines()
    samples.write_text("\n".join([header, *rows[::-1]]) + "\n")  # another order of images, and of layers
    page = page_of("--runs", *paths, "--out", str(tmp_path / "out"))
    table = read_table(tmp_path / "out" / "agreement.csv", REPEATS_AGREEMENT)
    assert len(table["tau"]) == 2 * len(LAYERS) * 3
    for row in range(len(table["tau"])):
        split, layer = table["split"][row], LAYERS.index(table["layer"][row])
        a, b = (scores_of(int(table[name][row][1:]))[split][layer] for name in ("run_a", "run_b"))
        assert table["tau"][row] == pytest.approx(stats.kendalltau(a, b).statistic)
        assert (table["n"][row], table["top"][row]) == (IMAGES[split], 50 if split == "candidate" else 30)
    last = (table["layer"] == "layer5") & (table["split"] == "candidate")
    assert table["tau_low"][last].min() > 0.5
    assert np.abs(table["tau"][~last]).max() < 0.3
    assert table["overlap"][last].min() > table["chance_p95"][last].max()
    text = page.text.replace("\N{NO-BREAK SPACE}", " ")
    assert agreement_words(table) in text
    assert f"In layer5, mean over 3 pairs of runs. Of candidates: {table['overlap'][last].mean():.1f} of the 50" in text
    assert "Of external images, which no encoder saw: " in text


@pytest.mark.usefixtures("_undrawn")
def test_runs_of_other_splits_are_not_asked_whether_they_agree(repeats: list[str], tmp_path: Path) -> None:
    paths = [str(shutil.copytree(path, tmp_path / Path(path).name)) for path in repeats]
    edit_json(RunDir(Path(paths[2])).splits, sha256="cd" * 32)
    text = page_of("--runs", *paths, "--out", str(tmp_path / "two")).text
    assert "not the same images in all runs (s0, s1; s2)" in text and "--data.split_seed 0" in text
    assert "that of other trainings on other images" in text
    table = read_table(tmp_path / "two" / "agreement.csv", REPEATS_AGREEMENT)
    assert set(zip(table["run_a"].tolist(), table["run_b"].tolist(), strict=True)) == {("s0", "s1")}
    text = page_of("--runs", *paths[1:], "--out", str(tmp_path / "none")).text
    assert "(s1; s2)" in text and agreement_words(read_table(tmp_path / "none" / "agreement.csv")) == ""


@pytest.mark.usefixtures("_undrawn")
def test_other_external_images_are_no_control(repeats: list[str], tmp_path: Path) -> None:
    paths = [str(shutil.copytree(path, tmp_path / Path(path).name)) for path in repeats[:2]]
    fewer = scores_of(1)
    add_samples(RunDir(Path(paths[1])), {**fewer, "external": fewer["external"][:, :-5]})
    text = page_of("--runs", *paths, "--out", str(tmp_path / "out")).text
    table = read_table(tmp_path / "out" / "agreement.csv", REPEATS_AGREEMENT)
    assert set(table["split"]) == {"candidate"}
    assert "Of candidates" in text and "Of external images" not in text


@pytest.mark.usefixtures("_undrawn")
def test_what_only_some_runs_have_is_said(repeats: list[str], tmp_path: Path) -> None:
    paths = [str(shutil.copytree(path, tmp_path / Path(path).name)) for path in repeats[:2]]
    shutil.rmtree(RunDir(Path(paths[0])).analysis("prune").dir)
    shutil.rmtree(RunDir(Path(paths[0])).analysis("layermem").dir)
    page = page_of("--runs", *paths, "--out", str(tmp_path / "out"))
    assert "Left out, as not all runs have it: layermem (not in s0); prune (not in s0)." in page.text
    assert "0.0010 (1 of 2 runs)" in next(row for row in page.rows if row[0] == "layer2")
    assert f"python analyze.py layermem --run {paths[0]}" in page.text
    for path in paths:
        shutil.rmtree(Path(path) / "analysis")
    text = page_of("--runs", *paths, "--out", str(tmp_path / "out")).text
    assert "The contrast was measured in none of these 2 runs." in text and "No other analysis is in all runs" in text
    assert read_table(tmp_path / "out" / "layers.csv", REPEATS_LAYERS)["layer"].tolist() == []


@pytest.mark.usefixtures("_undrawn")
def test_a_copy_is_not_a_repetition(repeats: list[str], tmp_path: Path) -> None:
    copy = str(shutil.copytree(repeats[0], tmp_path / "copy"))
    text = page_of("--runs", repeats[0], copy, "--out", str(tmp_path / "out")).text
    assert "do not even differ in a seed" in text and "s0 and copy hold the same encoder file" in text
    table = read_table(tmp_path / "out" / "agreement.csv")
    assert table["tau"] == pytest.approx(1) and (table["overlap"] == table["top"]).all()


# Mistakes


@pytest.mark.usefixtures("_undrawn")
def test_what_is_no_repetition_is_refused(
    repeats: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_layermem(other := make_run(tmp_path / "other", config(seed=7, repeat=4, temperature=0.2)), [0.0] * 5)
    out = ["--out", str(tmp_path / "out")]
    line = error_of(capsys, "--runs", repeats[0], str(other.root), *out)
    assert "they differ in repeat (1, 4); model.temperature (not set, 0.2)" in line and "seed (" not in line
    assert f"`analyze.py compare --runs {repeats[0]} {other.root}`" in line
    assert "give either --run" in error_of(capsys)
    assert "give either --run" in error_of(capsys, "--run", repeats[0], "--runs", *repeats)
    assert "belongs to --runs" in error_of(capsys, "--run", repeats[0], *out)
    assert "give at least two runs" in error_of(capsys, "--runs", repeats[0], *out)
    assert "given twice" in error_of(capsys, "--runs", repeats[0], repeats[0], *out)
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("_undrawn")
def test_a_damaged_run_leaves_the_page_before(
    repeats: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [str(shutil.copytree(path, tmp_path / Path(path).name)) for path in repeats[:2]]
    out = tmp_path / "out"
    page_of("--runs", *paths, "--out", str(out))
    before = (out / "repeats.html").read_bytes()
    samples = RunDir(Path(paths[1])).analysis("layermem").table("samples")
    lines = samples.read_text().splitlines(keepends=True)
    samples.write_text("".join(lines[:1] + lines[2:]))
    assert "has not all candidates of splits.json" in error_of(capsys, "--runs", *paths, "--out", str(out))
    samples.write_text("".join(lines)[:-4])
    assert "cut short" in error_of(capsys, "--runs", *paths, "--out", str(out))
    assert (out / "repeats.html").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "s0", "s1"]


@pytest.mark.usefixtures("_undrawn")
def test_only_an_earlier_page_of_repetitions_is_written_over(
    repeats: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in repeats:
        shutil.copytree(path, tmp_path / "runs" / Path(path).name)
    monkeypatch.chdir(tmp_path)
    assert main(["report", "--runs", *sorted(str(path) for path in Path("runs").iterdir())]) == 0
    assert "report: runs/repeats-s0-s1-s2/repeats.html" in capsys.readouterr().out
    every = sorted(str(path) for path in Path("runs").iterdir())
    assert len(every) == 4 and main(["report", "--runs", *every]) == 0  # the page lies among the runs and is not one
    capsys.readouterr()
    (Path("mine")).mkdir()
    Path("mine/compare.html").write_text("a comparison")
    assert "holds other files" in error_of(capsys, "--runs", *every, "--out", "mine")
    assert len(open_runs(every[1:])) == 3


def test_both_pages_of_several_runs_are_made_without_torch(repeats: list[str], tmp_path: Path) -> None:
    code = (
        "import sys; from memlight.analyze import main\n"
        "for command in ('report', 'compare'):\n"
        f"    assert main([command, '--runs', *{repeats!r}, '--out', {str(tmp_path)!r} + '/' + command]) == 0\n"
        "assert not {'torch', 'lightning', 'wandb', 'pandas'} & sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_commands_of_its_page_in_docs_exist_and_its_python_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (ROOT / "docs" / "AGREEMENT.md").read_text()
    lines = [shlex.split(line) for line in text.splitlines() if line.startswith("python analyze.py")]
    commands = [build_parser("analyze.py", "", COMMANDS).parse_args(words[2:]).command for words in lines]
    assert commands == ["layermem", "report", "layermem"]
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    for tag in (None, "again"):
        run = RunDir(tmp_path / "runs" / "digits_seed0")
        scores = {"candidate": np.random.default_rng(tag is None).normal(size=(3, 60))}
        add_samples(run, scores, layers=("layer1", "layer8", "res6"), tag=tag)
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["layer1", "layer8", "res6"]
