"""Atypical images from the command line: measures by hand, other people's scores, images without classes, refusals."""

import io
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from memlight.analyses.atypical.columns import TABLES
from memlight.analyses.atypical.scores import ScoreFile
from memlight.analyses.atypical.section import atypical_section
from memlight.analyses.atypical.study import _left_out, _without_class
from memlight.analyses.samples import Scores, SplitScores
from memlight.data.images import ImageDataModule
from memlight.errors import UserError
from memlight.models.encoders import load_encoder, read_metadata
from memlight.storage.rundir import AnalysisDir, RunDir
from memlight.storage.tables import read_json, read_table
from tests.close import NETWORK
from tests.report.test_page import Reader
from tests.test_bad_input import only_line
from tests.tiny_pair import THREE_LAYERS, analyze, table_bytes


@pytest.fixture(scope="module")
def scored(trained: RunDir) -> RunDir:
    assert analyze(trained.root, "layermem", *THREE_LAYERS) == 0
    return trained


@pytest.fixture(scope="module")
def data(trained: RunDir) -> ImageDataModule:
    module = ImageDataModule(**read_metadata(trained.member("candidate").encoder)["data"])
    module.setup()
    return module


@pytest.fixture(scope="module")
def done(scored: RunDir, data: ImageDataModule) -> AnalysisDir:
    file = scored.root / "theirs.csv"
    ids = [*data.split.candidate.tolist(), *data.split.independent.tolist()]
    file.write_text("\n".join(["difficulty,id", *(f"{id_ % 7}.5,{id_}" for id_ in reversed(ids))]) + "\n")
    assert analyze(scored.root, "atypical", f"--scores={file}", "--k=5") == 0
    return scored.analysis("atypical")


def output_of(run: RunDir, data: ImageDataModule, role: str, ids: list[int]) -> torch.Tensor:
    """What a member gives for each untouched image, scaled to length 1, one at a time."""
    encoder = load_encoder(run.member(role).encoder)
    clean = data.make_views("clean")
    with torch.no_grad():
        rows = [encoder(clean(data.images_of([id_]), torch.tensor([id_])))[0] for id_ in ids]
    return torch.nn.functional.normalize(torch.stack(rows).double(), dim=1)


def test_measures_are_those_of_one_image_at_a_time(scored: RunDir, data: ImageDataModule, done: AnalysisDir) -> None:
    images = read_table(done.table("images"), TABLES["images"])
    shared = data.split.shared.tolist()
    labels = data.labels_of(shared)
    reference = output_of(scored, data, "independent", shared)
    for split in ("candidate", "shared"):
        rows = np.flatnonzero(images["split"] == split)
        ids = images["id"][rows].tolist()
        z = output_of(scored, data, "independent", ids)
        for row, id_, features in zip(rows, ids, z, strict=True):
            label = int(data.labels_of([id_])[0])
            others = [at for at, other in enumerate(shared) if other != id_]
            of_class = [at for at in others if labels[at] == label]
            centroid = reference[of_class].mean(0)
            distance = 1 - float(features @ centroid / centroid.norm())
            np.testing.assert_allclose(images["centroid_g"][row], distance, **NETWORK)
            nearest = sorted(others, key=lambda at: -float(reference[at] @ features))[:5]
            disagreement = sum(labels[at] != label for at in nearest) / 5
            assert images["disagreement_g"][row] == pytest.approx(disagreement, abs=0.21)  # a tie may fall otherwise
    file = io.BytesIO()
    pixels = data.images_of(images["id"][:1].tolist())[0].permute(1, 2, 0).contiguous().numpy()
    Image.fromarray(pixels).save(file, "PNG", compress_level=9)
    assert images["bytes"][0] == file.tell()


def test_tables_have_every_layer_measure_and_placebo(done: AnalysisDir) -> None:
    tables = {name: read_table(done.table(name), schema) for name, schema in TABLES.items()}
    measures = ["centroid", "disagreement", "centroid_random", "disagreement_random", "bytes", "difficulty"]
    assert list(dict.fromkeys(tables["table"]["measure"].tolist())) == measures
    assert len(tables["table"]["layer"]) == 6 * 3 * 2
    assert set(tables["table"]["placebo"].tolist()) == {"external", "shared"}
    assert len(tables["images"]["id"]) == 16 + 16 + 15 + 16
    assert read_json(done.summary, dict)["headline"]["left_out"] == ""
    assert tables["fifths"]["layer"].tolist() == ["layer8"] * 30


def test_the_section_says_what_was_found_and_has_the_file(scored: RunDir, done: AnalysisDir) -> None:
    page = Reader(atypical_section(scored))
    assert "atypical images memorised" in page.text or "atypical by" in page.text
    assert any(row and row[0] == "difficulty" for row in page.rows)
    assert "left out" not in page.text


def test_it_is_the_same_when_it_is_run_again(scored: RunDir, done: AnalysisDir) -> None:
    before = table_bytes(done)
    assert analyze(scored.root, "atypical", f"--scores={scored.root / 'theirs.csv'}", "--k=5") == 0
    assert table_bytes(done) == before


def test_images_without_classes_are_compared_by_their_bytes(
    scored: RunDir, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ImageDataModule, "classes", property(lambda self: []))
    layermem, tagged = scored.analysis("layermem").dir, scored.analysis("layermem", "plain").dir
    tagged.symlink_to(layermem)
    assert analyze(scored.root, "atypical", "--tag=plain") == 0
    assert "measures that need classes are left out: the images have no classes" in capsys.readouterr().out
    done = scored.analysis("atypical", "plain")
    assert set(read_table(done.table())["measure"].tolist()) == {"bytes"}
    assert read_json(done.summary, dict)["headline"]["left_out"].endswith(": the images have no classes")
    assert "Measures that need classes are left out: the images have no classes." in atypical_section(scored)


def test_without_scores_or_with_those_of_other_encoders_it_is_refused(
    run: Path, scored: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    assert analyze(run, "atypical") == 2
    line = only_line(capsys)
    assert line.startswith(f"--run {run}: no ") and "layermem/samples.csv, whose scores this command reads" in line
    analysis = scored.analysis("layermem", "other")
    analysis.dir.mkdir()
    for file in (scored.analysis("layermem").table("samples"), scored.analysis("layermem").summary):
        (analysis.dir / file.name).write_bytes(file.read_bytes())
    text = analysis.summary.read_text().replace('"candidate": "', '"candidate": "00')
    analysis.summary.write_text(text)
    assert analyze(scored.root, "atypical", "--tag=other") == 2
    assert "its result of layermem is of other encoders than the run has now; make it again" in only_line(capsys)


def test_images_without_another_of_their_class_are_left_out() -> None:
    labels = np.array([0, 0, 0, 1, 2, 2, *[0] * 20, *[2] * 20, -1, 1, 3])
    shared, candidate, independent = np.arange(6), np.arange(6, 26), np.arange(26, 49)
    data: Any = SimpleNamespace(
        split=SimpleNamespace(shared=shared), labels_of=lambda ids: labels[ids], num_classes=4, classes=list("abcd")
    )
    splits = {"shared": shared, "candidate": candidate, "independent": independent}
    scores = {name: SplitScores(ids, labels[ids], np.zeros((len(ids), 1))) for name, ids in splits.items()}
    scored = Scores(["layer1"], scores, {}, 10, {})
    lacking, why = _without_class(data, scored)
    assert why == "" and _left_out(lacking).startswith("3 of 49 images are left out")
    left = {name: of.ids.tolist() for name, of in scored.without(lacking).splits.items()}
    assert left["shared"] == [0, 1, 2, 4, 5]  # the only image of class 1 has no other to be compared with
    assert left["independent"] == [*range(26, 46), 47] and left["candidate"] == candidate.tolist()
    few = replace(scored, splits={**scores, "candidate": SplitScores(shared[:0], shared[:0], np.empty((0, 1)))})
    assert _without_class(data, few)[1].startswith("only 0 images of a group")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("name,score\n1,2\n", "the first line must name the column id and others"),
        ("id\n1\n", "the first line must name the column id and others"),
        ("id,a,a\n1,2,3\n", "the first line must name the column id and others"),
        ("", "the first line must name the column id and others"),
        ("id,bytes\n1,2\n", "a column cannot be called 'bytes'"),
        ("id,a\n1,high\n", "row 2 is no id with numbers: '1,high'"),
        ("id,a\nx,1\n", "row 2 is no id with numbers"),
        ("id,a\n1,2\n1,3\n", "id 1 is in it twice"),
        ("id,a\n", "names no image"),
        ("id,a\n99999999999999999999999,1\n", "no image has the id 99999999999999999999999"),
    ],
)
def test_files_that_are_no_scores(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "scores.csv").write_text(content)
    with pytest.raises(UserError) as refused:
        ScoreFile.read(tmp_path / "scores.csv")
    assert words in refused.value.why and refused.value.argument == "scores"


def test_a_file_that_lacks_own_images_is_refused_before_anything_is_read(
    scored: RunDir, data: ImageDataModule, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "scores.csv"
    own = [*data.split.candidate.tolist(), *data.split.independent.tolist()]
    file.write_text("\n".join(["id,a,b", *(f"{id_},1,{'' if id_ == own[3] else 2}" for id_ in own)]))
    assert analyze(scored.root, "atypical", f"--scores={file}") == 2
    line = only_line(capsys)
    assert line.startswith(f"--scores {file}: no number for 1 of 16 candidate images (the first is id {own[3]})")
    assert ScoreFile.read(file).of(np.array([own[0], 10**6]))[:, 0].tolist()[0] == 1


def test_no_neighbours_are_none(scored: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    assert analyze(scored.root, "atypical", "--k=0") == 2
    assert only_line(capsys).startswith("--k 0: must be 1 or more")
