import numpy as np
import pytest
import torch

from memlight.analyses.unitmem.columns import UNITMEM_LAYERS
from memlight.analyses.unitmem.study import unitmem_tag
from memlight.data.images import ImageDataModule
from memlight.metrics.unitmem import measure_unitmem
from memlight.models.encoders import load_encoder, read_metadata
from memlight.storage.rundir import RunDir
from memlight.storage.tables import read_json, read_table
from tests.close import NETWORK, SCORES
from tests.tiny_pair import KEPT, ROLES, THREE_LAYERS, UNITMEM_TABLES, VIEWS, analyze, assert_same_tables, table_bytes

PAIR = {"unit_contrast", "unit_contrast_low", "unit_contrast_high", "own_max_share", "own_max_low", "own_max_high"}


@pytest.mark.parametrize("role", ROLES)
def test_the_callback_gives_what_analyze_gives(observed: RunDir, role: str) -> None:
    flags = [f"--member={role}", f"--split={role}", f"--checkpoint={KEPT}", "--no-pair", *THREE_LAYERS]
    assert analyze(observed.root, "unitmem", *flags, f"--tag=after-{role}") == 0
    during = observed.analysis("unitmem", unitmem_tag(role, role, KEPT))
    assert_same_tables(during, observed.analysis("unitmem", f"after-{role}"), UNITMEM_TABLES)


def test_batch_size_does_not_matter(trained: RunDir) -> None:
    assert analyze(trained.root, "unitmem", "--tag=default", *THREE_LAYERS) == 0
    for images_at_once in (7, 512):
        flags = [f"--max-forward={images_at_once * VIEWS}", f"--tag=batch-of-{images_at_once}"]
        assert analyze(trained.root, "unitmem", *flags, *THREE_LAYERS) == 0
        other = trained.analysis("unitmem", f"batch-of-{images_at_once}")
        assert_same_tables(trained.analysis("unitmem", "default"), other, [*UNITMEM_TABLES, "curve"])


def test_a_second_call_gives_the_same_bytes(trained: RunDir) -> None:
    """The intervals come from relabellings of the images: these are the same ones again."""
    first, second = (trained.analysis("unitmem", tag) for tag in ("first", "second"))
    for done in (first, second):
        assert analyze(trained.root, "unitmem", f"--tag={done.tag}", "--layers", "layer1", "layer8") == 0
    assert sorted(table_bytes(first)) == sorted(f"{name}.csv" for name in (*UNITMEM_TABLES, "curve"))
    assert table_bytes(first) == table_bytes(second)
    assert set(read_table(first.table("layers"))) == set(UNITMEM_LAYERS)


def test_the_curve_ends_at_the_mean_of_all_images_and_halves_of_the_views_agree(trained: RunDir) -> None:
    assert analyze(trained.root, "unitmem", "--tag=curve", *THREE_LAYERS) == 0
    done = trained.analysis("unitmem", "curve")
    curve, layers = read_table(done.table("curve")), read_table(done.table("layers"))
    assert curve["n"].tolist() == [10, 16] * 3
    assert curve["mean"][curve["n"] == 16] == pytest.approx(layers["mean"], abs=1e-6)
    halves = read_table(done.table("reliability"))
    assert halves["layer"].tolist() == layers["layer"].tolist()
    assert (np.abs(halves["split_half"]) <= 1).all()
    assert halves["split_half"][0] > 0.5


def test_median_columns_are_the_median_of_the_other_images(trained: RunDir) -> None:
    assert analyze(trained.root, "unitmem", "--reference=median", "--no-pair", "--tag=median", "--layers=layer5") == 0
    table = read_table(trained.analysis("unitmem", "median").table())
    path = trained.member("candidate").encoder
    data = ImageDataModule(**read_metadata(path)["data"])
    data.setup()
    measured = measure_unitmem(
        load_encoder(path),
        data.batches("candidate"),
        data.view_maker(),
        ["layer5"],
        num_views=VIEWS,
        keep_table=True,
        progress=False,
    )["layer5"]
    assert measured.mu is not None
    mu, ids = measured.mu.double().numpy(), measured.ids.tolist()
    for unit in range(mu.shape[1]):
        strongest = int(mu[:, unit].argmax())
        top, others = mu[strongest, unit], np.delete(mu[:, unit], strongest)
        assert table["max_id"][unit] == ids[strongest]
        for column, rest in (("unitmem", others.mean()), ("unitmem_median", np.median(others))):
            assert table[column][unit] == pytest.approx((top - rest) / (top + rest), abs=SCORES["atol"])
        assert table["mu_rest_median"][unit] == pytest.approx(np.median(others), rel=NETWORK["rtol"])
    assert (table["unitmem_median"] != table["unitmem"]).any()


def test_the_pair_columns_come_with_a_member_on_its_own_images_only(trained: RunDir) -> None:
    small = ["--layers=layer8"]
    with_pair = {"candidate-own": ("candidate", "candidate"), "independent-own": ("independent", "independent")}
    without = {"crossed": ("candidate", "independent"), "held-out": ("candidate", "external")}
    for tag, (member, split) in {**with_pair, **without, "random": ("random", "candidate")}.items():
        assert analyze(trained.root, "unitmem", f"--member={member}", f"--split={split}", f"--tag={tag}", *small) == 0
        done = trained.analysis("unitmem", tag)
        layers, table = read_table(done.table("layers")), read_table(done.table())
        assert PAIR & set(layers) == (PAIR if tag in with_pair else set())
        assert set(table["max_id"].tolist()) <= set(read_json(trained.splits, dict)[split])
        assert np.isnan(layers["held_out_mean"]).all() == (split == "external")
    own = [read_table(trained.analysis("unitmem", tag).table("layers")) for tag in with_pair]
    for column in ("unit_contrast", "own_max_share"):  # they are the pair's, whichever member is asked
        assert own[0][column] == pytest.approx(own[1][column], abs=SCORES["atol"])
    random = read_table(trained.analysis("unitmem", "random").table())
    learned = read_table(trained.analysis("unitmem", "candidate-own").table())
    assert not np.allclose(random["unitmem"], learned["unitmem"], atol=1e-3)


def test_results_are_told_apart_by_member_split_and_checkpoint() -> None:
    tags = {
        unitmem_tag(member, split, checkpoint)
        for member in ("candidate", "independent", "all", "random")
        for split in ("candidate", "independent", "external", "shared")
        for checkpoint in (None, "epoch=1", "epoch=11")
    }
    assert len(tags) == 4 * 4 * 3
    assert unitmem_tag("candidate", "candidate", None) is None
    assert unitmem_tag("candidate", "candidate", "epoch=1") == "epoch=1"


def test_views_are_those_of_training_unless_another_set_is_named(trained: RunDir) -> None:
    scores = {}
    for tag, flags in {
        "own": [],
        "named": ["--view-set=simclr"],
        "weak": ["--view-set=weak"],
        "seed": ["--seed=5"],
    }.items():
        assert analyze(trained.root, "unitmem", "--layers=layer1", "--no-pair", f"--tag=views-{tag}", *flags) == 0
        scores[tag] = torch.tensor(read_table(trained.analysis("unitmem", f"views-{tag}").table())["unitmem"])
    assert torch.equal(scores["own"], scores["named"])
    assert not torch.allclose(scores["own"], scores["weak"], atol=1e-3)
    assert not torch.allclose(scores["own"], scores["seed"], atol=1e-3)
