"""`analyze.py images` from a trained pair: tables against loops over images, mistakes, and two processes."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from memlight.analyses.images.columns import (
    IMAGES_CLUSTERS,
    IMAGES_CURVE,
    IMAGES_DESCRIBED,
    IMAGES_DESCRIPTORS,
    IMAGES_MATCHED,
    IMAGES_OWNERSHIP,
    IMAGES_SILHOUETTES,
    IMAGES_TABLE,
)
from memlight.analyses.images.descriptors import describe_images
from memlight.analyses.images.study import cluster_images
from memlight.analyses.images.tables import Owned, cluster_table, ownership_table
from memlight.data.images import ImageDataModule
from memlight.models.encoders import read_metadata
from memlight.storage.rundir import AnalysisDir, RunDir
from memlight.storage.tables import Table, read_json, read_table
from tests.ddp import run_ddp
from tests.runs.test_released import paint
from tests.tiny_pair import KEPT, analyze, assert_same_tables, table_bytes

TABLES = {
    "images": IMAGES_TABLE,
    "ownership": IMAGES_OWNERSHIP,
    "curve": IMAGES_CURVE,
    "descriptors": IMAGES_DESCRIPTORS,
    "matched": IMAGES_MATCHED,
    "clusters": IMAGES_CLUSTERS,
    "silhouettes": IMAGES_SILHOUETTES,
}


@pytest.fixture(scope="module")
def done(trained: RunDir) -> AnalysisDir:
    assert analyze(trained.root, "unitmem", "--no-pair") == 0
    assert analyze(trained.root, "images") == 0
    return trained.analysis("images")


def owned_by(table: Table, id_: int, among: list[int]) -> int:
    return sum(int(table["max_id"][unit]) == id_ for unit in among)


def test_images_own_the_units_that_unitmem_gives_them(trained: RunDir, done: AnalysisDir) -> None:
    assert {path.stem for path in done.dir.glob("*.csv")} == set(TABLES)
    images = read_table(done.table("images"), IMAGES_TABLE)
    splits = read_json(trained.splits, dict)
    path = trained.member("candidate").encoder
    data = ImageDataModule(**read_metadata(path)["data"])
    data.setup()
    for split, name in (("candidate", "table"), ("external", "held_out")):
        units = read_table(trained.analysis("unitmem").table(name))
        alive = [unit for unit in range(len(units["unit"])) if not units["dead"][unit]]
        top = sorted(alive, key=lambda unit: -units["unitmem"][unit])[: int(0.1 * len(alive))]
        rows = images["split"] == split
        assert images["id"][rows].tolist() == splits[split]
        for id_, owned, owned_top, label in zip(
            *(images[n][rows].tolist() for n in ("id", "units", "top_units", "label")), strict=True
        ):
            assert (owned, owned_top) == (owned_by(units, id_, alive), owned_by(units, id_, top))
            assert label == data.labels_of([id_])[0]
        for position, id_ in enumerate(splits[split][:3]):
            described = describe_images(data.images_of([id_]))
            assert all(images[n][rows][position] == float(described[n]) for n in IMAGES_DESCRIBED)
        ownership = read_table(done.table("ownership"))
        row = {column: values[ownership["split"] == split][0] for column, values in ownership.items()}
        assert (row["layer"], row["which"], row["units"]) == ("all layers", "top 10 %", len(top))
        assert row["owners"] == (images["top_units"][rows] > 0).mean()
        assert row["top_10"] == pytest.approx(max(images["top_units"][rows]) / len(top))  # 10 % of 16 images are one


def test_the_tests_are_of_the_numbers_in_the_table_of_images(done: AnalysisDir) -> None:
    images, found = read_table(done.table("images")), read_table(done.table("descriptors"))
    matched = read_table(done.table("matched"))
    for split, column in (("candidate", "rho"), ("external", "held_out_rho")):
        rows = images["split"] == split
        for row, name in enumerate(IMAGES_DESCRIBED):
            expected = np.nan
            if np.ptp(images[name][rows]) > 0:
                expected = stats.spearmanr(images[name][rows], images["top_units"][rows]).statistic
            assert found[column][row] == pytest.approx(expected, nan_ok=True)
    np.testing.assert_allclose(found["beyond"], found["rho"] - found["held_out_rho"])
    for p, q in (("p", "q"), ("held_out_p", "held_out_q"), ("beyond_p", "beyond_q")):
        made = np.isfinite(found[p])
        np.testing.assert_allclose(found[q][made], stats.false_discovery_control(found[p][made]))
    owners = images["top_units"][images["split"] == "candidate"] > 0
    assert matched["pairs"].max() <= min(owners.sum(), (~owners).sum())


def test_clusters_hold_all_driving_images_once(done: AnalysisDir) -> None:
    images, clusters = read_table(done.table("images")), read_table(done.table("clusters"))
    assert (images["cluster"][images["top_units"] > 0][: clusters["drivers"].sum()] >= 0).all()
    assert (images["cluster"][images["split"] == "external"] == -1).all()
    for row, cluster in enumerate(clusters["cluster"]):
        inside = images["cluster"] == cluster
        assert clusters["images"][row] == inside.sum()
        assert clusters["drivers"][row] == (images["top_units"][inside] > 0).sum()
        assert clusters["units"][row] == images["top_units"][inside].sum()
    assert clusters["unit_share"].sum() == pytest.approx(1)


def test_the_same_command_gives_the_same_tables_and_changes_nothing(trained: RunDir, done: AnalysisDir) -> None:
    before, encoder, state = table_bytes(done), trained.member("candidate").encoder.read_bytes(), torch.get_rng_state()
    assert analyze(trained.root, "images", "--max-forward=5") == 0
    assert trained.member("candidate").encoder.read_bytes() == encoder and torch.equal(torch.get_rng_state(), state)
    assert table_bytes(done).keys() == before.keys()
    assert {name for name, content in table_bytes(done).items() if content != before[name]} <= {"silhouettes.csv"}


@pytest.mark.ddp
def test_two_processes_give_the_tables_of_one(trained: RunDir, done: AnalysisDir) -> None:
    shutil.copytree(trained.analysis("unitmem").dir, trained.analysis("unitmem", "two").dir)
    assert run_ddp(analyze, 2, trained.root, "images", "--tag=two") == [0, 0]
    assert_same_tables(done, trained.analysis("images", "two"), list(TABLES))


def test_without_held_out_images_their_columns_are_empty(trained: RunDir, done: AnalysisDir) -> None:
    shutil.copytree(trained.analysis("unitmem").dir, trained.analysis("unitmem", "alone").dir)
    trained.analysis("unitmem", "alone").table("held_out").unlink()
    assert analyze(trained.root, "images", "--tag=alone") == 0
    alone = trained.analysis("images", "alone")
    found, matched = read_table(alone.table("descriptors")), read_table(alone.table("matched"))
    assert all(np.isnan(found[name]).all() for name in found if name.startswith(("held_out", "beyond")))
    assert np.isnan(matched["held_out_difference"]).all() and not matched["held_out_pairs"].any()
    assert set(read_table(alone.table("ownership"))["split"].tolist()) == {"candidate"}
    np.testing.assert_array_equal(found["p"], read_table(done.table("descriptors"))["p"])


def test_mistakes_say_what_to_do(trained: RunDir, done: AnalysisDir, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(*flags: str) -> str:
        capsys.readouterr()
        assert analyze(trained.root, "images", *flags) == 2
        return capsys.readouterr().err

    assert "unitmem-none, whose units this command looks at; make it again with" in refused("--tag=none")
    shutil.copytree(trained.analysis("unitmem").dir, trained.analysis("unitmem", "moved").dir)
    assert "--split shared: " in (words := refused("--tag=moved", "--split=shared"))
    assert "was measured on other shared images" in words
    assert "--external: " in refused("--tag=moved", "--external=3")
    assert "is of another encoder" in refused("--tag=moved", "--member=independent")
    assert "--checkpoint epoch=1: the random member was not trained" in refused(
        "--member=random", "--checkpoint=epoch=1"
    )
    assert not trained.analysis("images", "moved").dir.exists()


def test_what_a_callback_measured_is_looked_at_too(observed: RunDir) -> None:
    assert analyze(observed.root, "images", f"--checkpoint={KEPT}") == 0
    units = read_table(observed.analysis("unitmem", KEPT).table())
    images = read_table(observed.analysis("images", KEPT).table("images"))
    assert images["units"][images["split"] == "candidate"].sum() == (~units["dead"]).sum()


def owned(top_units: list[int], labels: list[int], table: Table) -> Owned:
    ids = np.arange(len(top_units)) * 3
    nothing = {name: np.zeros(len(ids)) for name in IMAGES_DESCRIBED}
    counts = np.array(top_units)
    return Owned("candidate", ids, np.array(labels), table, counts, counts, nothing)


def test_a_cluster_of_driving_images_is_told_from_chance() -> None:
    """10 of 40 images drive units and 9 of these are in one cluster of 10: hypergeometric, p 8.5e-7 by hand."""
    top_units = [2] * 9 + [0] + [4] + [0] * 29
    labels = np.array([0] * 10 + [1] * 30)
    images = owned(top_units, [0] * 5 + [1] * 35, {})
    table = cluster_table(images, images.ids, labels, ["cat", "dog"])
    assert table["drivers"].tolist() == [9, 1] and table["controls"].tolist() == [1, 29]
    assert table["units"].tolist() == [18, 4] and table["unit_share"][0] == pytest.approx(18 / 22)
    assert table["class_name"].tolist() == ["cat", "dog"] and table["class_share"].tolist() == [5 / 9, 1]
    expected = stats.fisher_exact([[9, 1], [1, 29]]).pvalue
    np.testing.assert_allclose(table["p"], expected)
    np.testing.assert_allclose(table["q"], expected)
    assert (table["null_low"] <= 0.25).all() and (table["null_high"] >= 0.25).all() and table["null_high"][0] < 0.9
    unlabelled = cluster_table(images, images.ids, labels, [])
    assert unlabelled["class_name"].tolist() == ["", ""] and np.isnan(unlabelled["class_share"]).all()


def test_ownership_is_counted_in_each_layer_without_its_dead_units() -> None:
    table = {
        "layer": np.repeat(["a", "b", "c"], [20, 10, 2]),
        "unit": np.concatenate([np.arange(20), np.arange(10), np.arange(2)]),
        "unitmem": np.concatenate([np.linspace(1, 0.5, 20), np.linspace(0.4, 0.1, 10), [0, 0]]),
        "max_id": np.array([0] * 20 + [3] * 10 + [6, 6]),
        "dead": np.array([False] * 30 + [True] * 2),
    }
    images = owned([3] + [0] * 9, [-1] * 10, table)
    found = ownership_table({"candidate": images}, seed=0)
    groups = list(zip(*(found[name].tolist() for name in ("layer", "which", "units", "owners")), strict=True))
    assert groups == [
        ("all layers", "top 10 %", 3, 0.1),
        ("all layers", "all", 30, 0.2),
        ("all layers", "bottom 10 %", 3, 0.1),
        ("a", "top 10 %", 2, 0.1),
        ("b", "top 10 %", 1, 0.1),
    ]
    assert found["most"].tolist() == [1, pytest.approx(2 / 3), 1, 1, 1]
    assert (found["owners_null"][:3] > found["owners"][:3]).all() and found["owners_null"][4] == pytest.approx(0.1)


def test_a_released_encoder_is_looked_at_without_asking(tmp_path: Path) -> None:
    photos = paint(tmp_path / "photos", [f"{i}.png" for i in range(6)])
    flags = ["--encoder=resnet18", f"--images={photos}", "--image-size=32", "--layers=layer4", "--views=1"]
    assert analyze(tmp_path / "run", "unitmem", *flags) == 0
    found = RunDir(tmp_path / "run").analysis("images")
    assert read_table(found.table("images"))["id"].tolist() == [0, 1, 2, 3, 4, 5]
    before = table_bytes(found)
    assert (
        analyze(tmp_path / "run", "images", *(flag for flag in flags if not flag.startswith(("--layers", "--views"))))
        == 0
    )
    assert table_bytes(found) == before


def test_groups_in_different_directions_are_found_whatever_their_length() -> None:
    rng = np.random.default_rng(0)
    centres = np.eye(6)[[0, 2, 5]]
    group = np.repeat([0, 1, 2], (12, 30, 20))
    features = (centres[group] + 0.05 * rng.normal(size=(62, 6))) * rng.uniform(0.1, 50, size=(62, 1))
    found = cluster_images(features)
    assert found.numbers.tolist() == [2, 3, 4, 5, 6, 7, 8] and found.numbers[found.silhouettes.argmax()] == 3
    assert np.bincount(found.labels).tolist() == [30, 20, 12], "the largest first"
    assert (np.array([2, 0, 1])[group] == found.labels).all()
    again = cluster_images(features)
    assert (again.labels == found.labels).all() and (again.silhouettes == found.silhouettes).all()


@pytest.mark.parametrize(("features", "count"), [(np.ones((5, 3)), 0), (np.zeros((2, 3)), 0), (np.eye(3), 1)])
def test_few_or_equal_images_are_no_special_case(features: np.ndarray, count: int) -> None:
    found = cluster_images(features)
    assert len(found.numbers) == len(found.silhouettes) == count
    assert len(found.labels) == len(features) and found.labels.max() == count
