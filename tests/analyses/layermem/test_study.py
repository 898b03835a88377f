from pathlib import Path

import numpy as np
import pytest
from scipy.stats import kendalltau

from memlight.analyses.layermem.columns import LAYERMEM_AGREEMENT, LAYERMEM_SAMPLES, LAYERMEM_TABLE
from memlight.models.encoders import load_encoder, read_metadata, save_encoder
from memlight.runs.checkpoints import initial_encoder
from memlight.storage.rundir import RunDir
from memlight.storage.tables import read_json, read_table
from tests.tiny_pair import KEPT, ROLES, THREE_LAYERS, VIEWS, analyze, assert_same_tables, table_bytes

TABLES = ["agreement", "intervals", "membership", "placebos", "samples", "table", "tests"]


def test_the_callback_gives_what_analyze_gives(observed: RunDir) -> None:
    assert analyze(observed.root, "layermem", f"--checkpoint={KEPT}", "--tag=after", *THREE_LAYERS) == 0
    assert_same_tables(observed.analysis("layermem", KEPT), observed.analysis("layermem", "after"), TABLES)


def test_the_finished_encoders_and_a_checkpoint_of_theirs_differ(trained: RunDir) -> None:
    """So that the equalities of this file are not those of constants."""
    assert analyze(trained.root, "layermem", "--tag=finished") == 0
    assert analyze(trained.root, "layermem", f"--checkpoint={KEPT}", "--tag=earlier") == 0
    finished, earlier = (
        read_table(trained.analysis("layermem", tag).table("samples")) for tag in ("finished", "earlier")
    )
    assert np.array_equal(finished["id"], earlier["id"])
    for column in ("align_f", "align_g", "score"):
        assert np.abs(finished[column] - earlier[column]).min() > 0
        assert np.abs(finished[column] - earlier[column]).mean() > 1e-3


def test_tables_hold_every_split_and_layer_once(trained: RunDir) -> None:
    assert analyze(trained.root, "layermem", "--tag=splits", "--layers", "layer1", "res6") == 0
    done = trained.analysis("layermem", "splits")
    table, samples = read_table(done.table()), read_table(done.table("samples"))
    assert list(table) == list(LAYERMEM_TABLE)
    assert list(samples) == list(LAYERMEM_SAMPLES)
    assert table["layer"].tolist() == ["layer1", "res6"]
    splits = read_json(trained.splits, dict)
    scored = {split: sorted(splits[split]) for split in ("candidate", "independent", "external", "shared")}
    scored["shared"] = sorted(set(samples["id"]) & set(splits["shared"]))  # as many as candidates
    for split, size in (("candidate", 16), ("independent", 16), ("external", 15), ("shared", 16)):
        for layer in ("layer1", "res6"):
            rows = (samples["split"] == split) & (samples["layer"] == layer)
            assert samples["id"][rows].tolist() == scored[split]
            assert rows.sum() == size
            column = "layermem" if split == "candidate" else f"control_{split}"
            value = table[column][table["layer"] == layer]
            assert samples["score"][rows].mean() == pytest.approx(float(value[0]), abs=1e-7)
    expected = (table["layermem"] - table["control_independent"]) / 2
    assert table["contrast"] == pytest.approx(expected, abs=1e-7)
    summary = read_json(done.summary, dict)
    assert summary["headline"]["contrast/res6"] == pytest.approx(float(table["contrast"][1]))
    assert summary["images"] == 16 + 16 + 15 + 16
    assert sorted(summary["checkpoints"]) == sorted(ROLES)


def test_batch_size_does_not_matter(trained: RunDir) -> None:
    assert analyze(trained.root, "layermem", "--tag=default") == 0
    for images_at_once in (7, 512):
        flags = [f"--max-forward={images_at_once * VIEWS}", f"--tag=batch-of-{images_at_once}"]
        assert analyze(trained.root, "layermem", *flags) == 0
        other = trained.analysis("layermem", f"batch-of-{images_at_once}")
        assert_same_tables(trained.analysis("layermem", "default"), other, TABLES)


def test_a_second_call_gives_the_same_bytes(trained: RunDir) -> None:
    first, second = (trained.analysis("layermem", tag) for tag in ("first", "second"))
    for done in (first, second):
        assert analyze(trained.root, "layermem", f"--tag={done.tag}") == 0
    assert sorted(table_bytes(first)) == sorted(f"{name}.csv" for name in TABLES)
    assert table_bytes(first) == table_bytes(second)


def test_layers_are_ranked_by_their_scores_and_a_single_layer_is_not(trained: RunDir) -> None:
    assert analyze(trained.root, "layermem", "--tag=ranked", *THREE_LAYERS) == 0
    done = trained.analysis("layermem", "ranked")
    table, samples = read_table(done.table("agreement"), LAYERMEM_AGREEMENT), read_table(done.table("samples"))
    assert table["layer_a"].tolist() == ["layer1", "layer1", "res2"] * 2
    assert table["layer_b"].tolist() == ["res2", "layer8", "layer8"] * 2
    for row, split in enumerate(table["split"].tolist()):
        both = [
            samples["score"][(samples["split"] == split) & (samples["layer"] == table[name][row])]
            for name in ("layer_a", "layer_b")
        ]
        assert table["tau"][row] == pytest.approx(kendalltau(*both).statistic)
        assert (table["n"][row], table["top"][row]) == ((16, 8) if split == "candidate" else (15, 7))
    assert analyze(trained.root, "layermem", "--tag=single", "--layers=layer8") == 0
    assert not trained.analysis("layermem", "single").table("agreement").exists()


@pytest.mark.parametrize("kind", ["untrained", "the same encoder twice"])
def test_a_pair_that_cannot_have_memorised_scores_exactly_zero(run: Path, kind: str) -> None:
    done = RunDir(run)
    candidate = load_encoder(done.member("candidate").encoder)
    for role in ROLES:
        path = done.member(role).encoder
        metadata = read_metadata(path)
        save_encoder(path, initial_encoder(metadata) if kind == "untrained" else candidate, metadata)
    assert analyze(run, "layermem") == 0
    table = read_table(done.analysis("layermem").table())
    for column in ("layermem", "control_shared", "contrast", "contrast_low", "contrast_high", "top50", "least50"):
        assert not table[column].any(), column
    assert (table["p_adjusted"] == 1).all()
    membership = read_table(done.analysis("layermem").table("membership"))
    assert (membership["auc_pair"] == 0.5).all() and (membership["p_adjusted"] == 1).all()
    samples = read_table(done.analysis("layermem").table("samples"))
    assert not samples["score"].any()
    assert (samples["align_f"] > 0).all()
    assert analyze(run, "unitmem", "--layers", "layer1", "layer8") == 0
    layers = read_table(done.analysis("unitmem").table("layers"))
    assert not layers["unit_contrast"].any()
    assert layers["own_max_share"] == pytest.approx(0.5, abs=1e-12)
    assert (layers["mean"] > 0).all()
