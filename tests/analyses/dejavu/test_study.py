"""Deja Vu from the command line: by hand on real files, in parts, and its refusals."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from memlight.analyses.dejavu import study
from memlight.analyses.dejavu.columns import TABLES
from memlight.analyses.dejavu.section import dejavu_section
from memlight.data.images import ImageDataModule
from memlight.metrics.retrieval import corner_ranks
from memlight.models.encoders import load_encoder, read_metadata
from memlight.storage.rundir import AnalysisDir, RunDir
from memlight.storage.tables import read_table
from tests.close import SCORES
from tests.report.test_page import Reader
from tests.test_bad_input import only_line
from tests.tiny_pair import analyze, table_bytes

TWO = ["--layers", "layer1", "layer8"]


@pytest.fixture(scope="module")
def done(trained: RunDir) -> AnalysisDir:
    assert analyze(trained.root, "dejavu", *TWO) == 0
    return trained.analysis("dejavu")


def means_of(run: RunDir, role: str, ids: list[int], corner: slice) -> torch.Tensor:
    """Layer 8's mean output on one corner of each image, enlarged, one image at a time."""
    path = run.member(role).encoder
    data, encoder = ImageDataModule(**read_metadata(path)["data"]), load_encoder(path)
    data.setup()
    rows: list[torch.Tensor] = []
    encoder.get_submodule("layer8").register_forward_hook(lambda _, __, y: rows.append(y[0].mean((1, 2))))
    with torch.no_grad():
        for id_ in ids:
            crop = data.images_of([id_])[:, :, corner, corner]
            encoder(data.make_views("clean")(crop, torch.tensor([id_])))
    return torch.stack(rows)


def test_ranks_are_those_of_one_crop_at_a_time(trained: RunDir, done: AnalysisDir) -> None:
    samples = read_table(done.table("samples"), TABLES["samples"])
    data = ImageDataModule(**read_metadata(trained.member("candidate").encoder)["data"])
    data.setup()
    own = np.sort(np.concatenate([data.split.candidate, data.split.independent]))
    corners = slice(0, 8), slice(8, 16)
    for role, column in (("candidate", "reciprocal_rank_f"), ("independent", "reciprocal_rank_g")):
        ranks = corner_ranks(*(means_of(trained, role, own.tolist(), corner) for corner in corners))
        expected = dict(zip(own.tolist(), ranks.reciprocal().mean(0).tolist(), strict=True))
        for split in ("candidate", "independent"):
            rows = (samples["split"] == split) & (samples["layer"] == "layer8")
            assert samples["id"][rows].tolist() == data.split.ids(split).tolist()
            found = [expected[id_] for id_ in samples["id"][rows].tolist()]
            np.testing.assert_allclose(samples[column][rows], found, **SCORES)


def test_tables_have_their_columns_and_every_split(done: AnalysisDir) -> None:
    tables = {name: read_table(done.table(name), schema) for name, schema in TABLES.items()}
    assert tables["table"]["layer"].tolist() == ["layer1", "layer8"] and tables["table"]["n"].tolist() == [32, 32]
    assert tables["placebos"]["placebo"].tolist() == ["external"] * 2 + ["shared"] * 2
    assert tables["placebos"]["n"].tolist() == [15, 15, 32, 32]  # there are no more external images
    assert set(tables["samples"]["split"].tolist()) == {"candidate", "independent", "external", "shared"}
    assert np.isfinite(tables["table"]["p_adjusted"]).any()


def test_layers_that_do_not_fit_together_give_the_same_in_passes_of_their_own(
    trained: RunDir, done: AnalysisDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study, "BUDGET", 1)
    assert analyze(trained.root, "dejavu", *TWO, "--tag=apart") == 0
    assert table_bytes(trained.analysis("dejavu", "apart")) == table_bytes(done)


def test_the_section_stays_silent_about_layers_and_has_all_rows(trained: RunDir, done: AnalysisDir) -> None:
    page = Reader(dejavu_section(trained))
    assert "In none of 2 layers do the members find" in page.text
    assert page.text.count("no layer differs between two random halves") >= 1
    rows = [row for row in page.rows if row and row[0] in ("layer1", "layer8")]
    assert len(rows) >= 2


def test_an_unknown_layer_and_a_lone_member_are_refused(
    run: Path, trained: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    assert analyze(trained.root, "dejavu", "--layers", "layer99") == 2
    assert only_line(capsys).startswith("--layers layer99: no such layer")
    lone = RunDir(run)
    lone.member("independent").encoder.unlink()
    assert analyze(lone.root, "dejavu") == 2
    assert "independent" in only_line(capsys)


def test_halves_are_dealt_at_random_and_have_all_images() -> None:
    ids = np.arange(50, 81)
    first, second = study._halves(ids, 3)
    assert sorted([*first, *second]) == ids.tolist() and (len(first), len(second)) == (15, 16)
    assert not np.array_equal(first, ids[:15]) and (np.diff(first) > 0).all()
    assert not np.array_equal(first, study._halves(ids, 4)[0])


def test_no_pixel_reaches_both_crops(trained: RunDir) -> None:
    """A crop is what the other corner's pixels cannot change."""
    data = ImageDataModule(**read_metadata(trained.member("candidate").encoder)["data"])
    data.setup()
    (batch,) = replace(data.batches("candidate", 4), ids=data.split.candidate[:4])
    make = study.corner_maker(data)
    other = batch.images.clone()
    other[:, :, 8:, 8:] = 255 - other[:, :, 8:, 8:]
    changed = batch._replace(images=other)
    assert torch.equal(make(batch, 0), make(changed, 0)) and not torch.equal(make(batch, 1), make(changed, 1))
    assert make(batch, 0).shape == (4, 3, 16, 16)
