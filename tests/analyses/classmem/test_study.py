"""ClassMem from the command line: by hand on real files, by other people's labels, and in two processes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from memlight.analyses.classmem.columns import CLASSMEM_CLASSES, CLASSMEM_LAYERS, CLASSMEM_TABLE
from memlight.analyses.classmem.study import classmem_tag
from memlight.analyses.unitmem.columns import UNITMEM_TABLE
from memlight.data.images import ImageDataModule
from memlight.display.pictures import rows_grid
from memlight.metrics.classmem import shuffled_labels
from memlight.models.encoders import load_encoder, read_metadata
from memlight.storage.rundir import AnalysisDir, RunDir
from memlight.storage.tables import Table, read_json, read_table
from tests.close import SCORES
from tests.ddp import run_ddp
from tests.tiny_pair import analyze, assert_same_tables, table_bytes

TABLES = ["classes", "layers", "table", "unitmem"]
TWO = ["--layers", "layer5", "res6"]
NAMES = ["ant", "bee", "cow"]


@pytest.fixture(scope="module")
def labelled(trained: RunDir) -> list[str]:
    """Flags: classes by id modulo 3 for the candidates and the external images."""
    splits = read_json(trained.splits, dict)
    rows = [f"{id_},{NAMES[id_ % 3]}" for split in ("candidate", "external") for id_ in splits[split]]
    path = trained.root / "thirds.csv"
    path.write_text("\n".join(["id,label", *rows]) + "\n")
    return [f"--labels={path}", *TWO]


@pytest.fixture(scope="module")
def done(trained: RunDir, labelled: list[str]) -> AnalysisDir:
    assert analyze(trained.root, "classmem", *labelled, "--permutations=5", "--seed=3") == 0
    return trained.analysis("classmem", "by-thirds")


def mu_of(run: RunDir, split: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Activations of the untouched images, one at a time: layer -> (N, U), and the ids."""
    path = run.member("candidate").encoder
    data, encoder = ImageDataModule(**read_metadata(path)["data"]), load_encoder(path)
    data.setup()
    ids = data.split.ids(split)
    mu: dict[str, list[np.ndarray]] = {"layer5": [], "res6": []}
    for name, rows in mu.items():
        module = encoder.get_submodule(name)
        module.register_forward_hook(lambda _, __, y, rows=rows: rows.append(y[0].abs().mean((1, 2)).numpy()))
    with torch.no_grad():
        for id_ in ids.tolist():
            encoder(data.make_views("clean")(data.images_of([id_]), torch.tensor([id_])))
    return {name: np.stack(rows).astype(np.float64) for name, rows in mu.items()}, ids


def score(mu_NU: np.ndarray, labels_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    means = np.stack([mu_NU[labels_N == c].mean(0) for c in range(3)])
    top = means.max(0)
    rest = (means.sum(0) - top) / 2
    return np.divide(top - rest, top + rest, out=np.zeros_like(top), where=top + rest > 0), means.argmax(0)


def of_layer(table: Table, layer: str) -> Table:
    return {name: column[table["layer"] == layer] for name, column in table.items()}


def test_tables_are_what_one_image_at_a_time_gives(trained: RunDir, done: AnalysisDir) -> None:
    tables = {name: read_table(done.table(name)) for name in TABLES}
    for name, columns in (("table", CLASSMEM_TABLE), ("layers", CLASSMEM_LAYERS), ("classes", CLASSMEM_CLASSES)):
        assert list(tables[name]) == list(columns)
    assert list(tables["unitmem"]) == [*[*UNITMEM_TABLE][:8], "path"]
    (mu, ids), (unseen, external) = mu_of(trained, "candidate"), mu_of(trained, "external")
    assert tables["classes"]["class_name"].tolist() == NAMES
    assert tables["classes"]["images"].tolist() == [int((ids % 3 == c).sum()) for c in range(3)]
    shuffles = shuffled_labels(torch.from_numpy(ids % 3), 5, 3)[:, 1:].numpy()
    for row, layer in enumerate(("layer5", "res6")):
        units, summary = of_layer(tables["table"], layer), {k: v[row] for k, v in tables["layers"].items()}
        scores, classes = score(mu[layer], ids % 3)
        alive = (mu[layer] != 0).any(0)
        np.testing.assert_allclose(units["classmem"], scores, **SCORES)
        assert (units["max_class"][alive] == classes[alive]).mean() > 0.99
        null = np.stack([score(mu[layer], labels)[0] for labels in shuffles.T])[:, alive]
        held_out = score(unseen[layer], external % 3)[0][(unseen[layer] != 0).any(0)]
        top = mu[layer].max(0)
        rest = (mu[layer].sum(0) - top) / (len(ids) - 1)
        unitmem = np.where(alive, (top - rest) / np.where(alive, top + rest, 1), 0)
        np.testing.assert_allclose(of_layer(tables["unitmem"], layer)["unitmem"], unitmem, **SCORES)
        expected = {
            "units": len(alive),
            "dead": (~alive).sum(),
            "mean": scores[alive].mean(),
            "p95": np.quantile(scores[alive], 0.95),
            "max": scores.max(),
            "null_mean": null.mean(),
            "null_p95": np.quantile(null, 0.95, axis=0).mean(),
            "held_out_mean": held_out.mean(),
            "unitmem_mean": unitmem[alive].mean(),
        }
        for column, value in expected.items():
            assert float(summary[column]) == pytest.approx(float(value), abs=SCORES["atol"]), column
        assert summary["null_mean"] > 0.01
    summary = read_json(done.summary, dict)
    assert summary["headline"]["held_out_mean/res6"] == float(tables["layers"]["held_out_mean"][1])
    assert list(summary["checkpoints"]) == ["candidate"]


def test_views_are_averaged_and_the_untouched_image_is_none_of_them(
    trained: RunDir, labelled: list[str], done: AnalysisDir
) -> None:
    assert analyze(trained.root, "classmem", *labelled, "--views=3", "--seed=3", "--tag=views") == 0
    assert analyze(trained.root, "unitmem", *TWO, "--views=3", "--seed=3", "--no-pair", "--tag=views") == 0
    beside = read_table(trained.analysis("classmem", "views").table("unitmem"))
    alone = read_table(trained.analysis("unitmem", "views").table())
    for column in ("unitmem", "mu_max", "mu_rest"):
        np.testing.assert_allclose(beside[column], alone[column], **SCORES)
    assert np.abs(beside["unitmem"] - read_table(done.table("unitmem"))["unitmem"]).max() > 1e-3


def test_batch_size_does_not_matter_and_a_second_call_gives_the_same_bytes(
    trained: RunDir, labelled: list[str], done: AnalysisDir
) -> None:
    flags = [*labelled, "--permutations=5", "--seed=3"]
    assert analyze(trained.root, "classmem", *flags, "--tag=again") == 0
    assert table_bytes(trained.analysis("classmem", "again")) == table_bytes(done)
    assert sorted(table_bytes(done)) == [f"{name}.csv" for name in TABLES]
    assert analyze(trained.root, "classmem", *flags, "--max-forward=7", "--tag=of-7") == 0
    assert_same_tables(done, trained.analysis("classmem", "of-7"), TABLES)
    assert analyze(trained.root, "classmem", *labelled, "--permutations=5", "--seed=4", "--tag=other") == 0
    other = read_table(trained.analysis("classmem", "other").table("layers"))
    layers = read_table(done.table("layers"))
    assert np.array_equal(other["mean"], layers["mean"]) and not np.array_equal(other["null_mean"], layers["null_mean"])


def _classmem(run: str, *flags: str) -> int:
    return analyze(Path(run), "classmem", *flags, "--permutations=5", "--seed=3", "--tag=two-processes")


@pytest.mark.ddp
def test_two_processes_give_the_tables_of_one(trained: RunDir, labelled: list[str], done: AnalysisDir) -> None:
    assert run_ddp(_classmem, 2, str(trained.root), *labelled) == [0, 0]
    assert_same_tables(done, trained.analysis("classmem", "two-processes"), TABLES)


def test_pictures_are_the_strongest_images_of_the_units_class(
    trained: RunDir, labelled: list[str], done: AnalysisDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: dict[str, tuple[Any, ...]] = {}

    def grid(images: Any, titles: Any, captions: Any, *, title: str) -> object:
        drawn[title] = images, titles, captions
        return rows_grid(images, titles, captions, title=title)

    monkeypatch.setattr("memlight.analyses.unitmem.pictures.rows_grid", grid)
    assert analyze(trained.root, "classmem", *labelled, "--tag=pictures") == 0
    images, titles, captions = drawn["Top unit of each layer"]
    mu, ids = mu_of(trained, "candidate")
    table = read_table(done.table())
    for layer, title, row, pictures in zip(("layer5", "res6"), titles, captions, images, strict=True):
        units = of_layer(table, layer)
        best = int(units["classmem"].argmax())
        name = NAMES[units["max_class"][best]]
        assert title == f"{layer} unit {best}\n{name} {units['classmem'][best]:.3f}"
        own = np.flatnonzero(ids % 3 == units["max_class"][best])
        order = own[np.argsort(-mu[layer][own, best], kind="stable")]
        shown = [int(caption.split("\n")[0]) for caption in row if caption]
        assert shown == ids[order][: len(row)].tolist() and len(shown) == len(pictures) == min(8, len(own))
    _, titles, _ = drawn["Top units"]
    scores = [float(title.split()[-1]) for title in titles]
    assert len(titles) == 12 and scores == sorted(scores, reverse=True)
    assert scores[0] == pytest.approx(table["classmem"].max(), abs=5e-4)


def test_the_data_sets_own_classes_and_a_held_out_split_that_lacks_one(
    trained: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    """All 48 shared digits hold every class; the 15 external ones may not, and then the column is empty."""
    labels = ImageDataModule(**read_metadata(trained.member("candidate").encoder)["data"])
    labels.setup()
    complete = len(set(labels.labels_of(labels.split.external).tolist())) == 10
    assert len(set(labels.labels_of(labels.split.shared).tolist())) == 10
    assert analyze(trained.root, "classmem", "--split=shared", "--member=independent", *TWO) == 0
    done = trained.analysis("classmem", "independent-on-shared")
    layers, classes = read_table(done.table("layers")), read_table(done.table("classes"), CLASSMEM_CLASSES)
    assert classes["class_name"].tolist() == labels.classes
    assert classes["images"].sum() == 48
    assert np.isfinite(layers["held_out_mean"]).all() == complete
    assert ("held-out column left empty: no image of" in capsys.readouterr().out) != complete


def test_an_encoder_and_images_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Classes by folder, and by the paths of the files; none of the held-out ones is named."""
    rng = np.random.default_rng(0)
    rows = []
    for split, count in (("train", 6), ("test", 3)):
        for kind in ("cat", "dog"):
            (tmp_path / "pets" / split / kind).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "pets" / split / kind / f"{number}.png")
                rows.append(f"{split}/{kind}/{number}.png,{'even' if number % 2 == 0 else 'odd'}")
    (tmp_path / "parity.csv").write_text("\n".join(["path,label", *rows[:12]]))
    flags = ["--encoder=resnet9", "--image-size=16", f"--images={tmp_path / 'pets'}", "--layers=layer1"]
    assert analyze(tmp_path / "run", "classmem", *flags) == 0
    assert analyze(tmp_path / "run", "classmem", *flags, f"--labels={tmp_path / 'parity.csv'}") == 0
    assert "held-out column left empty: 6 of 6 images have no class (id 12, " in capsys.readouterr().out
    run = RunDir(tmp_path / "run")
    for tag, names in ((None, ["cat", "dog"]), ("by-parity", ["even", "odd"])):
        done = run.analysis("classmem", tag)
        classes, layers = read_table(done.table("classes")), read_table(done.table("layers"))
        assert (classes["class_name"].tolist(), classes["images"].tolist()) == (names, [6, 6])
        assert np.isnan(layers["held_out_mean"][0]) == (tag is not None)


def test_results_are_told_apart() -> None:
    assert classmem_tag("candidate", "candidate", None, None) is None
    assert classmem_tag("candidate", "candidate", "epoch=1", None) == "epoch=1"
    assert classmem_tag("random", "shared", "student", "/x/y.z.csv") == "random-on-shared-student-by-y.z"


@pytest.mark.parametrize(
    ("flags", "content", "words"),
    [
        (["--labels={file}"], None, "--labels {file}: cannot be read"),
        (["--labels={file}"], "image,class\n", "--labels {file}: the first line must name"),
        (["--labels={file}"], "id,label\n100000,a\n", "--labels {file}: no such image: id 100000; ids go from 0"),
        (["--labels={file}"], "id,label\n0,a\n", "--labels {file}: candidate split: 1"),
        (["--split=candidate"], None, "--split candidate: no image of "),
        (["--views=-1"], None, "--views -1: must be 0 or more."),
        (["--permutations=0"], None, "--permutations 0: must be 1 or more."),
        (["--view-set=weak"], None, "--view-set weak: no views are made"),
        (["--member=random", "--checkpoint=epoch=1"], None, "--checkpoint epoch=1: the random member"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_mistakes_are_one_line_and_leave_nothing(
    run: Path, flags: list[str], content: str | None, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = run / "labels.csv"
    if content is not None:
        file.write_text(content)
    given = [flag.format(file=file) for flag in flags]
    assert analyze(run, "classmem", *given) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {words.format(file=file)}")
    assert not (run / "analysis").exists() or not list((run / "analysis").iterdir())
