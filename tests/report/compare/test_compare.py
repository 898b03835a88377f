"""`analyze.py compare`: the page against what it must say, its tables and figures, and every mistake."""

import math
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

from memlight.analyses.registry import headline_columns, headline_numbers
from memlight.analyze import COMMANDS, main
from memlight.commands import build_parser
from memlight.report.compare.directory import default_directory, write_comparison
from memlight.report.compare.figures import LEGEND_ROWS, contrast_by_depth, contrast_by_group, headline_dots
from memlight.report.compare.groups import group_runs
from memlight.report.compare.runs import common_axis, measured_otherwise, open_runs
from memlight.runs.settings import SHORT_NAMES
from memlight.storage.rundir import RunDir
from memlight.storage.tables import read_table
from tests.compared_runs import CONTRAST, add_layermem, config, make_run, make_study
from tests.report.test_page import Reader
from tests.said import refused
from tests.tiny_pair import ROOT


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Six runs to read."""
    return make_study(tmp_path_factory.mktemp("study"))


@pytest.fixture
def _undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the figures: drawing takes longest."""
    monkeypatch.setattr("memlight.report.compare.directory._draw", lambda *_: {})


def page_of(*argv: str) -> Reader:
    """The page that ``analyze.py compare`` makes in ``--out``."""
    assert main(["compare", *argv]) == 0
    return Reader((Path(argv[argv.index("--out") + 1]) / "compare.html").read_text(encoding="utf-8"))


def error_of(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """The one line that ``analyze.py compare`` refuses with."""
    assert main(["compare", *argv]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


# The page and its files


def test_the_page_holds_every_number_and_fetches_nothing(study: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    page = page_of("--runs", *study, "--out", str(out))
    html = (out / "compare.html").read_text(encoding="utf-8")
    assert not re.search(r"https?:|//cdn|@import|url\(", html)
    pictures = [source for source in page.sources if not source.startswith("#")]
    assert len(pictures) == 4 and all(source.startswith("data:image/png;base64,") for source in pictures)
    text = page.text.replace("\N{NO-BREAK SPACE}", " ")
    assert re.search(
        r"from 0\.0010 \(r1_s0\) to 0\.0050 \(r4_s2\); it lies above 0 in [56] of 6 runs tested together", text
    )
    assert "The runs differ in repeat, seed." in text and "Runs of a group differ in seed alone." in text
    assert ["r4_s1", "4", "1", "0.0045 [0.0035, 0.0055]", "0.0160 [0.0146, 0.0174] layer4"] in [
        row[:5] for row in page.rows
    ]
    assert "methodsimclr" in text and "repeat1" not in text  # what all share
    (group,) = [row for row in page.rows if row[:2] == ["1", "3"]]
    assert group[2].startswith("0.0015 [") and group[2].endswith("], 0.0010 to 0.0020")
    assert group[-2].endswith("40.00 to 60.00")
    assert "Measured in none" not in text and "not measured alike" not in text
    commands = [f"python analyze.py probe --run {path}" for path in study[3:]]
    assert "\n".join(commands) in text and text.count("python analyze.py") == 3
    files = sorted(str(path.relative_to(out)) for path in out.rglob("*.*"))
    figures = [f"figures/{name}.png" for name in ("contrast", "groups", "headlines", "unitmem")]
    assert files == ["compare.html", *figures, "groups.csv", "layers.csv", "runs.csv"]


@pytest.mark.usefixtures("_undrawn")
def test_the_tables_hold_what_the_runs_hold(study: list[str], tmp_path: Path) -> None:
    page_of("--runs", *study, "--out", str(tmp_path / "out"))
    runs = read_table(tmp_path / "out" / "runs.csv")
    assert list(runs) == ["run", "repeat", "seed", *headline_columns()]
    layers = read_table(tmp_path / "out" / "layers.csv")
    for row, ((repeat, seed), contrast) in enumerate(CONTRAST.items()):
        assert (runs["run"][row], runs["repeat"][row], runs["seed"][row]) == (f"r{repeat}_s{seed}", repeat, seed)
        assert runs["contrast/last"][row] == contrast[-1] and runs["contrast/peak_layer"][row] == "layer4"
        of_run = layers["run"] == f"r{repeat}_s{seed}"
        assert layers["contrast"][of_run].tolist() == contrast
        assert layers["unitmem"][of_run].tolist() == [0.3, 0.3, 0.4, 0.5, 0.6 + seed / 100]
        assert layers["depth"][of_run].tolist() == [0, 1, 2, 3, 4]
    assert np.isnan(runs["knn_top1"][3:]).all() and np.isnan(layers["classmem"]).all()
    groups = read_table(tmp_path / "out" / "groups.csv")
    measured = [name for name in headline_numbers() if not name.startswith(("classmem", "membership", "dejavu"))]
    assert groups["number"].tolist() == measured * 2 and groups["repeat"].tolist() == [1] * 9 + [4] * 9
    of_unitmem = {"unit_contrast/last", "own_max_share/last"}
    assert {name for name in measured if headline_numbers()[name].interval} == {
        "contrast/last",
        "contrast/peak",
        *of_unitmem,
    }


@pytest.mark.usefixtures("_undrawn")
def test_grouping_by_what_is_asked_for(study: list[str], tmp_path: Path) -> None:
    page = page_of("--runs", *study, "--out", str(tmp_path / "out"), "--by", "seed", "method")
    assert "Grouped by seed, method. Runs of a group also differ in repeat" in page.text
    groups = read_table(tmp_path / "out" / "groups.csv")
    assert set(groups["method"]) == {"simclr"} and sorted(set(groups["seed"])) == [0, 1, 2]


@pytest.mark.usefixtures("_undrawn")
def test_what_was_not_measured_alike_is_said(study: list[str], tmp_path: Path) -> None:
    other = RunDir(Path(shutil.copytree(study[1], tmp_path / "other")))
    add_layermem(other, CONTRAST[1, 1], flags="--views 4 --device cuda --max-forward=64 --logger csv --no-pair")
    runs = open_runs([study[0], str(other.root)])
    assert measured_otherwise(runs) == {"layermem": {"no flags": ["r1_s0"], "--no-pair --views 4": ["other"]}}
    page = page_of("--runs", study[0], str(other.root), "--out", str(tmp_path / "out"))
    assert "layermem was not measured alike: no flags (r1_s0); --no-pair --views 4 (other)." in page.text


@pytest.mark.usefixtures("_undrawn")
def test_names_cannot_break_the_page(tmp_path: Path) -> None:
    paths = []
    for name in ("<script>a", "b"):
        run = make_run(tmp_path / name, config(encoder=f"<script>{name}", name="</p><script>alert(1)"))
        add_layermem(run, [0.1, 0.2], layers=("<b>one", "two"))
        paths.append(str(run.root))
    page = page_of("--runs", *paths, "--out", str(tmp_path / "out"))
    assert (tmp_path / "out" / "compare.html").read_text().count("<script>") == 1
    assert "<script>alert(1)" in page.text


def test_results_with_a_tag_are_left_alone(study: list[str], tmp_path: Path) -> None:
    run = RunDir(Path(shutil.copytree(study[0], tmp_path / "tagged")))
    run.analysis("layermem").dir.rename(run.analysis("layermem", "more").dir)
    tagged, _ = open_runs([str(run.root), study[1]])
    assert tagged.missing == ["layermem"] and math.isnan(tagged.number("contrast/last"))


def test_every_run_has_a_line_and_a_long_legend_is_cut(study: list[str], tmp_path: Path) -> None:
    runs = open_runs(study)
    axis, groups = common_axis(runs), group_runs(runs, ["repeat"])
    lines = contrast_by_depth(groups, axis).axes[0].get_lines()[:6]
    assert [line.get_ydata().tolist() for line in lines] == list(CONTRAST.values())
    assert len({line.get_color() for line in lines}) == 2
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == 6
    (band, _) = contrast_by_group(groups, axis).axes[0].collections
    assert band.get_datalim(contrast_by_group(groups, axis).axes[0].transData).y1 == pytest.approx(0.004)
    titles = [ax.get_title("left") for ax in headline_dots(groups).axes]
    assert titles == ["contrast, last layer", "contrast, highest layer", "unit contrast, last layer",
                      "kNN, top-1", "linear probe, top-1"]  # fmt: skip
    many = []
    for index in range(LEGEND_ROWS + 3):
        add_layermem(run := make_run(tmp_path / f"{index:02}", config(repeat=index)), [0.0] * 5)
        many.append(str(run.root))
    opened = open_runs(many)
    (legend,) = contrast_by_depth(group_runs(opened, ["repeat"]), common_axis(opened)).legends
    assert len(legend.get_texts()) == LEGEND_ROWS and legend.get_title().get_text() == "and 3 more"


# Mistakes


@pytest.mark.usefixtures("_undrawn")
def test_what_cannot_be_compared_is_refused(
    study: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "out")]
    assert "--runs nowhere: no such directory" in error_of(capsys, "--runs", study[0], "nowhere", *out)
    (tmp_path / "empty").mkdir()
    assert "not a run directory" in error_of(capsys, "--runs", study[0], str(tmp_path / "empty"), *out)
    assert "give at least two runs" in error_of(capsys, "--runs", study[0], *out)
    twice = error_of(capsys, "--runs", study[0], study[1], f"{study[0]}/../r1_s0", *out)
    assert twice == f"error: --runs {study[0]}: given twice; each run is compared once."
    unknown = error_of(capsys, "--runs", *study, *out, "--by", "dose")
    assert "--by dose: no such setting; the runs differ in repeat, seed, and share method, encoder" in unknown
    assert not (tmp_path / "out").exists() and not (tmp_path / ".out").exists()


@pytest.mark.usefixtures("_undrawn")
def test_a_damaged_run_leaves_the_comparison_before(
    study: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [str(shutil.copytree(path, tmp_path / Path(path).name)) for path in study[:2]]
    out = tmp_path / "out"
    page_of("--runs", *paths, "--out", str(out))
    before = (out / "compare.html").read_bytes()
    table = RunDir(Path(paths[1])).analysis("layermem").table()
    table.write_text(table.read_text()[:-5])
    assert "--runs: " in (line := error_of(capsys, "--runs", *paths, "--out", str(out))) and "cut short" in line
    RunDir(Path(paths[0])).config.write_text("model: {}\n")
    assert "config.yaml: field model.class_path is missing" in error_of(capsys, "--runs", *paths, "--out", str(out))
    assert (out / "compare.html").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "r1_s0", "r1_s1"]


@pytest.mark.usefixtures("_undrawn")
def test_an_interrupted_comparison_leaves_the_one_before(
    study: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, out = open_runs(study[:2]), tmp_path / "out"
    write_comparison(runs, [], out)
    before = {path: path.read_bytes() for path in out.rglob("*.*")}

    def stop(*_: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("memlight.report.compare.directory.comparison_page", stop)
    with pytest.raises(KeyboardInterrupt):
        write_comparison(runs, [], out)
    assert {path: path.read_bytes() for path in out.rglob("*.*")} == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.usefixtures("_undrawn")
def test_only_an_earlier_comparison_is_written_over(
    study: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (mine := tmp_path / "mine").mkdir()
    (mine / "thesis.tex").write_text("years of work")
    assert "holds other files" in error_of(capsys, "--runs", *study[:2], "--out", str(mine))
    assert "is a file, not a directory; choose another --out" in error_of(
        capsys, "--runs", *study[:2], "--out", str(mine / "thesis.tex")
    )
    assert "holds other files" in error_of(capsys, "--runs", *study[:2], "--out", study[2])
    for by in ("seed", "repeat"):
        page_of("--runs", *study[:2], "--out", str(tmp_path / "out"), "--by", by)
    assert "repeat" in read_table(tmp_path / "out" / "groups.csv")


@pytest.mark.usefixtures("_undrawn")
def test_a_comparison_lies_among_the_runs_and_is_not_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_study(tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    chosen = ["runs/r1_s0", "runs/r4_s0"]
    assert main(["compare", "--runs", *chosen]) == 0
    assert "comparison: runs/compare-r1_s0-r4_s0/compare.html" in capsys.readouterr().out
    every = sorted(str(path) for path in Path("runs").iterdir())
    assert len(every) == 7 and main(["compare", "--runs", *every]) == 0
    six = Path("runs/compare-r1_s0-r1_s1-r1_s2-r4_s0-r4_s1-r4_s2/compare.html")
    assert "6 runs side by side" in six.read_text()
    long = [f"runs/{letter * 60}" for letter in "ab"]
    assert re.fullmatch(r"runs/compare-2-runs-[0-9a-f]{8}", str(default_directory(long)))
    assert default_directory(long[::-1]) == default_directory(long)
    assert default_directory(["x/run", "y/run"]) != default_directory(["x/run", "z/run"])


def test_runs_of_one_name_are_told_apart_by_their_place(study: list[str], tmp_path: Path) -> None:
    paths = [str(shutil.copytree(path, tmp_path / place / "run")) for path, place in zip(study, "ab", strict=False)]
    assert [run.name for run in open_runs(paths)] == paths
    with refused("--runs"):
        open_runs([paths[0]])


def test_the_commands_of_its_page_in_docs_exist() -> None:
    text = (ROOT / "docs" / "COMPARE.md").read_text()
    blocks = "\n".join(re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL))
    lines = [shlex.split(line) for line in blocks.splitlines() if "analyze.py" in line]
    assert len(lines) == 6
    for words in lines:
        assert words[:2] == ["python", "analyze.py"]
        assert build_parser("analyze.py", "", COMMANDS).parse_args(words[2:]).command == words[2]
    for name in (*headline_numbers(), *SHORT_NAMES.values()):
        assert f"`{name}`" in text
