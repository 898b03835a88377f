"""`--join`: scores of others beside LayerMem, units and the images that drive them; names beside every id."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.stats import spearmanr

from memlight.analyses.chart_joined import joined_by_layer
from memlight.analyses.columns_joined import JOINED, PICTURED
from memlight.analyses.joined import Measured, joined_table
from memlight.analyses.layermem.columns import LAYERMEM_SAMPLES
from memlight.analyses.section_joined import joined_words
from memlight.analyses.unitmem.columns import UNITMEM_HIGHEST, UNITMEM_TABLE
from memlight.analyze import main
from memlight.data.joining import JoinedScores
from memlight.storage.image_names import IMAGES, ImageNames
from memlight.storage.rundir import RunDir
from memlight.storage.tables import Table, read_json, read_table
from tests.quick import without_charts
from tests.tiny_pair import THREE_LAYERS, analyze

STUDIES, IMAGES_SCORED = 150, 40
MOST = 0.05 + 2 * np.sqrt(0.05 * 0.95 / STUDIES)


def others(values: np.ndarray, *names: str) -> JoinedScores:
    return JoinedScores("others.csv", list(names), values, "")


def table_of_study(scores: np.ndarray, values: np.ndarray, *names: str, seed: int = 0) -> Table:
    layers = [f"layer{number}" for number in range(scores.shape[1])]
    measured = Measured("candidate", np.arange(len(scores)), scores, "LayerMem")
    return joined_table(layers, measured, others(values, *names), None, seed)


def test_where_scores_are_dealt_at_random_nothing_is_said_in_95_of_100_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same scores of one run, joined with the same scores of others in another order each time."""
    rng, said = np.random.default_rng(0), 0
    scores = rng.normal(size=(IMAGES_SCORED, 1)) + rng.normal(size=(IMAGES_SCORED, 5))
    values = np.round(rng.beta(0.3, 0.6, size=(IMAGES_SCORED, 2)), 1)
    monkeypatch.setattr("memlight.analyses.joined.spearman_family", _fewer_relabellings())
    for study in range(STUDIES):
        words = joined_words(table_of_study(scores, rng.permuted(values, axis=0), "mem", "csl", seed=study), "LayerMem")
        said += "correlated in" in words
    assert said / STUDIES <= MOST


def _fewer_relabellings() -> object:
    from functools import partial

    from memlight.stats.correlations import spearman_family

    return partial(spearman_family, permutations=300)


def test_what_goes_together_is_named_with_the_other_score_left_out() -> None:
    rng = np.random.default_rng(1)
    scores = rng.normal(size=(IMAGES_SCORED, 3))
    values = np.stack([-scores[:, 2] + 0.3 * rng.normal(size=IMAGES_SCORED), rng.normal(size=IMAGES_SCORED)], axis=1)
    words = joined_words(table_of_study(scores, values, "mem", "csl"), "LayerMem")
    assert words.startswith("LayerMem and mem are correlated in layer2 (40 images, 6 correlations tested together")
    assert "rank correlation \N{MINUS SIGN}0.9" in words
    assert "No rank correlation between LayerMem and csl is measured" in words


@pytest.mark.parametrize(("images", "scores"), [(40, 1), (400, 3)])
def test_the_chart_has_a_line_for_each_score_and_every_image(images: int, scores: int) -> None:
    rng = np.random.default_rng(5)
    ours, names = rng.normal(size=(images, 4)), [f"score $ {number}" for number in range(scores)]
    values = rng.normal(size=(images, scores))
    values[:7, 0] = np.nan
    control = Measured("independent", np.arange(images), -ours, "LayerMem")
    measured = Measured("candidate", np.arange(images), ours, "LayerMem")
    table = joined_table([f"layer{n}" for n in range(4)], measured, others(values, *names), control, 0)
    np.testing.assert_allclose(table["control"], -table["spearman"])
    left, right = joined_by_layer(table, ours[:, -1], values[:, 0], "LayerMem", names[0]).axes
    assert len(left.containers) == scores and "control images" in [text.get_text() for text in left.get_legend().texts]
    assert len(right.lines[0].get_xdata()) == images - 7
    assert len(right.lines) == (2 if images >= 100 else 1)  # means of tenths where there are enough images


# The commands


@pytest.fixture(scope="module")
def file(trained: RunDir, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scores in the layout of C-scores, of all training digits in their order."""
    listed = read_table(trained.images, IMAGES)
    training = [path.startswith("train/") for path in listed["path"]]
    labels = listed["label"][training]
    path = tmp_path_factory.mktemp("scores") / "digits-cscores.npz"
    np.savez(path, labels=labels, scores=np.random.default_rng(2).random(len(labels)))
    return path


def scores_in(path: Path) -> np.ndarray:
    with np.load(path) as arrays:
        return np.asarray(arrays["scores"])


@pytest.fixture(scope="module")
def joined(trained: RunDir, file: Path) -> RunDir:
    assert analyze(trained.root, "layermem", *THREE_LAYERS, "--join", str(file), "--tag", "joined") == 0
    units = ["--no-pair", "--tag", "joined"]
    assert analyze(trained.root, "unitmem", *THREE_LAYERS, *units, "--join", str(file)) == 0
    assert analyze(trained.root, "images", "--tag", "joined", "--join", str(file)) == 0
    return trained


def test_layermem_is_compared_layer_by_layer(joined: RunDir, file: Path) -> None:
    analysis = joined.analysis("layermem", "joined")
    table, samples = (
        read_table(analysis.table("joined"), JOINED),
        read_table(analysis.table("samples"), LAYERMEM_SAMPLES),
    )
    assert table["layer"].tolist() == THREE_LAYERS[1:] and set(table["score"]) == {"scores"}
    for row, layer in enumerate(table["layer"].tolist()):
        for split, column, count in (("candidate", "spearman", "n"), ("independent", "control", "n_control")):
            rows = (samples["layer"] == layer) & (samples["split"] == split)
            expected = spearmanr(samples["score"][rows], scores_in(file)[samples["id"][rows]]).statistic
            assert table[column][row] == pytest.approx(expected) and table[count][row] == rows.sum()
    headline = read_json(analysis.summary, dict)["headline"]
    assert headline["joined_file"] == file.name and headline["joined/last"] == table["spearman"][-1]
    assert "0 of 1497 labels differ" in headline["joined_words"]


def test_units_are_compared_by_how_many_an_image_is_the_strongest_of(joined: RunDir, file: Path) -> None:
    analysis = joined.analysis("unitmem", "joined")
    table, units = read_table(analysis.table("joined"), JOINED), read_table(analysis.table(), UNITMEM_TABLE)
    ids = np.array(read_json(joined.splits, dict)["candidate"])
    for row, layer in enumerate(table["layer"].tolist()):
        among = ~units["dead"] & ((units["layer"] == layer) | (layer == "all layers"))
        counts = [(units["max_id"][among] == id_).sum() for id_ in ids.tolist()]
        assert table["spearman"][row] == pytest.approx(spearmanr(counts, scores_in(file)[ids]).statistic)
    assert table["layer"][-1] == "all layers" and (table["n_control"] == 0).all()  # test images have no such score
    owned = read_table(joined.analysis("images", "joined").table("joined"), JOINED)
    assert owned["layer"].tolist() == ["all units", "top 10 % of units"]
    assert owned["spearman"][0] == pytest.approx(table["spearman"][-1])


def test_the_report_shows_what_was_joined(joined: RunDir) -> None:
    assert analyze(joined.root, "report") == 0
    html = joined.report.read_text()
    assert html.count("<h3>Scores of others</h3>") == 3 and "digits-cscores.npz" in html
    assert "The most and the least memorised candidates, with their files" in html


def test_every_id_has_its_path_beside_it(joined: RunDir) -> None:
    names = ImageNames.read(joined.images)
    assert names is not None
    of_layers, of_units = joined.analysis("layermem", "joined"), joined.analysis("unitmem", "joined")
    for path, schema, column in (
        (of_layers.table("samples"), LAYERMEM_SAMPLES, "id"),
        (of_layers.table("pictured"), PICTURED, "id"),
        (of_units.table(), UNITMEM_TABLE, "max_id"),
        (of_units.table("held_out"), UNITMEM_TABLE, "max_id"),
        (of_units.table("highest"), UNITMEM_HIGHEST, "max_id"),
    ):
        table = read_table(path, schema)
        assert list(table)[-1] == "path" and np.array_equal(table["path"], names.path(table[column])), path
    pictured = read_table(of_layers.table("pictured"), PICTURED)
    assert (np.diff(pictured["score"][pictured["which"] == "most"]) <= 0).all()


def test_a_run_without_a_list_of_its_images_gets_the_same_one(joined: RunDir, tmp_path: Path) -> None:
    run = RunDir(Path(shutil.copytree(joined.root, tmp_path / "run")))
    run.images.unlink()
    assert analyze(run.root, "layermem", "--layers", "layer1", "--tag", "again") == 0
    assert run.images.read_bytes() == joined.images.read_bytes()


def test_half_a_pair_has_external_images_as_its_control(trained: RunDir, tmp_path: Path) -> None:
    """Of an adopted pair, whose images are listed by its first analysis."""
    split = read_json(trained.splits, dict)
    rows = [f"{id_},{name}" for name in ("candidate", "external") for id_ in split[name]]
    (tmp_path / "splits.csv").write_text("\n".join(["id,split", *rows]) + "\n")
    (tmp_path / "s.csv").write_text(
        "id,mem\n" + "".join(f"{row.partition(',')[0]},{n % 7}\n" for n, row in enumerate(rows))
    )
    weights = [str(trained.member(role).encoder) for role in ("candidate", "independent")]
    flags = ["--candidate", weights[0], "--reference", weights[1], "--dataset", "digits", "--resize", "16"]
    assert main(["adopt", *flags, "--splits", str(tmp_path / "splits.csv"), "--run", str(tmp_path / "half")]) == 0
    run = RunDir(tmp_path / "half")
    assert analyze(run.root, "layermem", "--layers", "layer1", "--join", str(tmp_path / "s.csv")) == 0
    table = read_table(run.analysis("layermem").table("joined"), JOINED)
    assert (table["n"][0], table["n_control"][0]) == (16, 15) and np.isfinite(table["control"]).all()
    listed = read_table(run.images, IMAGES)
    assert np.array_equal(np.flatnonzero(listed["split"] == "candidate"), np.sort(split["candidate"]))
    assert analyze(run.root, "report") == 0 and "which neither encoder was trained on" in run.report.read_text()


@pytest.mark.parametrize("command", ["layermem", "unitmem", "images"])
def test_another_order_is_refused_before_anything_is_written(
    joined: RunDir, file: Path, tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with np.load(file) as arrays:
        labels = np.random.default_rng(3).permutation(arrays["labels"])
        np.savez(tmp_path / "shuffled.npz", labels=labels, scores=arrays["scores"])
        differ = int((labels != arrays["labels"]).sum())
    tag = ["--tag", "joined" if command == "images" else "refused"]
    before = sorted(joined.root.rglob("*"))
    assert analyze(joined.root, command, *tag, "--join", str(tmp_path / "shuffled.npz")) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("error: --join ") and f"{differ} of 1497 labels differ" in line
    assert sorted(joined.root.rglob("*")) == before


def test_names_of_files_cannot_become_a_page_s_code(tmp_path: Path) -> None:
    """An encoder that was not trained here, on files with awkward names."""
    rng = np.random.default_rng(4)
    awkward = ["<img src=x onerror=alert(1)>.png", "two\nlines.png", "=1+1.png", "b\udc80.png", "日本 $x$.png"]
    (tmp_path / "photos").mkdir()
    for name in [*awkward, *(f"{i}.png" for i in range(7))]:
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(tmp_path / "one.png")
        shutil.move(tmp_path / "one.png", f"{tmp_path / 'photos'}/{name}")
    files = sorted(path.name for path in (tmp_path / "photos").iterdir())
    (tmp_path / "scores.csv").write_text("path,mem\n" + "".join(f"{i}.png,0.{i}\n" for i in range(7)) + "=1+1.png,1\n")
    with (tmp_path / "scores.csv").open("a") as file:
        file.write('"<img src=x onerror=alert(1)>.png",0.3\n"two\nlines.png",0.2\n')
    flags = ["--encoder", "resnet9", "--image-size", "16", "--images", str(tmp_path / "photos"), "--layers", "layer1"]
    where = ["--run", str(tmp_path / "run"), "--device", "cpu", "--logger", "csv", "--views", "2"]
    with without_charts("unitmem", "images"):
        assert main(["unitmem", *flags, *where, "--join", str(tmp_path / "scores.csv")]) == 0
    run = RunDir(tmp_path / "run")
    names = ImageNames.read(run.images)
    assert names is not None and sorted(names.paths) == files
    assert read_table(run.analysis("unitmem").table("joined"), JOINED)["n"].tolist() == [10, 10]
    assert main(["report", "--run", str(run.root)]) == 0
    html = run.report.read_text()
    assert "<img src=x" not in html and "\\u003cimg src=x onerror" in html
