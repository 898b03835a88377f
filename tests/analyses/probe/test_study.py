import numpy as np
import pytest
import torch

from memlight.analyses.probe.columns import PROBE_TABLE
from memlight.data.images import ImageDataModule
from memlight.models.encoders import load_encoder, read_metadata
from memlight.storage.rundir import RunDir
from memlight.storage.tables import read_table
from tests.tiny_pair import analyze, assert_same_tables, table_bytes


@pytest.fixture(scope="module")
def probed(trained: RunDir) -> RunDir:
    assert analyze(trained.root, "probe", "--k=5") == 0
    return trained


def test_table_has_both_evaluations_of_every_encoder(probed: RunDir) -> None:
    table = read_table(probed.analysis("probe").table())
    assert list(table) == list(PROBE_TABLE)
    rows = list(zip(table["member"].tolist(), table["evaluation"].tolist(), strict=True))
    assert rows == [(m, e) for m in ("candidate", "independent", "random") for e in ("linear", "knn")]
    assert (table["n_train"] == 48).all()
    assert (table["n_test"] == 15).all()
    for column in ("top1", "top5"):
        share = table[column][table["evaluation"] == "linear"]
        assert ((share >= 0) & (share <= 1)).all()
        assert share * 15 == pytest.approx(np.round(share * 15))


def test_nearest_neighbours_are_shared_images_and_vote_on_external_ones(probed: RunDir) -> None:
    path = probed.member("candidate").encoder
    encoder, data = load_encoder(path), ImageDataModule(**read_metadata(path)["data"])
    data.setup()
    features = {}
    for split in ("shared", "external"):
        ids = data.split.ids(split)
        images = data.make_views("clean")(data.images_of(ids), torch.from_numpy(ids))
        with torch.no_grad():
            z = encoder(images).double().numpy()
        features[split] = z / np.linalg.norm(z, axis=1, keepdims=True), data.labels_of(ids)
    (train_z, train_y), (test_z, test_y) = features["shared"], features["external"]
    right = 0
    for z, label in zip(test_z, test_y, strict=True):
        similarity = train_z @ z
        votes = np.zeros(10)
        for neighbour in similarity.argsort()[::-1][:5]:
            votes[train_y[neighbour]] += np.exp(similarity[neighbour] / 0.1)
        right += votes.argmax() == label
    table = read_table(probed.analysis("probe").table())
    found = table["top1"][(table["member"] == "candidate") & (table["evaluation"] == "knn")]
    assert float(found[0]) == pytest.approx(right / len(test_y))


def test_batch_size_does_not_matter_and_a_second_call_gives_the_same_bytes(probed: RunDir) -> None:
    for tag, flags in {"again": [], "of-7": ["--max-forward=7"]}.items():
        assert analyze(probed.root, "probe", "--k=5", f"--tag={tag}", *flags) == 0
    assert table_bytes(probed.analysis("probe")) == table_bytes(probed.analysis("probe", "again"))
    assert_same_tables(probed.analysis("probe"), probed.analysis("probe", "of-7"), ["table"], answers=15)


def test_chosen_members_only(probed: RunDir) -> None:
    assert analyze(probed.root, "probe", "--members", "random", "--tag=chosen") == 0
    table = read_table(probed.analysis("probe", "chosen").table())
    assert set(table["member"].tolist()) == {"random"}


def test_more_test_images_than_the_run_names(probed: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    assert analyze(probed.root, "probe", "--k=5", "--external=40", "--tag=more") == 0
    more = read_table(probed.analysis("probe", "more").table())
    assert (more["n_test"] == 40).all()
    assert (more["n_train"] == 48).all()
    assert analyze(probed.root, "probe", "--k=5", "--external=15", "--tag=same") == 0
    assert table_bytes(probed.analysis("probe")) == table_bytes(probed.analysis("probe", "same"))
    assert analyze(probed.root, "probe", "--external=4000") == 2
    assert "--external 4000: there are 300 test images; choose 300 or fewer." in capsys.readouterr().err
