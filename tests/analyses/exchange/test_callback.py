from pathlib import Path

import numpy as np
import pytest

from memlight.storage.rundir import RunDir
from memlight.storage.tables import read_table
from tests.tiny_pair import (
    KEPT,
    TinyPair,
    analyze,
    assert_same_tables,
    callback_flags,
    checkpoint,
    encoder_state,
    fit,
    same_tensors,
)


def test_the_callback_gives_what_analyze_gives_and_leaves_training_alone(plain_pair: TinyPair, run: Path) -> None:
    """While the second member trains, whose partner kept a checkpoint of the same epoch."""
    done, donor = RunDir(run), plain_pair.root
    for path in sorted(done.member("independent").dir.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    options = {"every_n_epochs": 2, "num_views": 2, "donor": donor, "subsets": '["layer1,layer8"]'}
    assert fit(run, *callback_flags("ExchangeCallback", **options), role="independent") == 0
    assert same_tensors(encoder_state(run, "independent"), encoder_state(donor, "independent"))
    plain, observed = (checkpoint(root, "last", "independent") for root in (donor, run))
    assert same_tensors(plain["optimizer_states"], observed["optimizer_states"])
    flags = [f"--donor={donor}", "--layers=layer1,layer8", "--views=2", "--member=independent"]
    assert analyze(run, "exchange", *flags, f"--checkpoint={KEPT}", "--tag=after") == 0
    during, after = (done.analysis("exchange", tag) for tag in (f"independent-{KEPT}", "after"))
    assert_same_tables(during, after, ["effects", "layers", "recalibrated", "table"])
    table, metrics = read_table(after.table()), read_table(done.member("independent").metrics)
    for layers, dataset, top1 in zip(table["layers"], table["dataset"], table["probe_top1"], strict=True):
        logged = metrics[f"exchange/top1/{layers}/{dataset}"]
        assert logged[np.isfinite(logged)] == pytest.approx([top1], abs=1e-6)
    assert np.isfinite(table["layermem_after"]).any()
