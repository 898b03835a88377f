from pathlib import Path

import numpy as np
import pytest

from memlight.storage.rundir import RunDir
from memlight.storage.tables import read_json, read_table
from tests.tiny_pair import (
    KEPT,
    TinyPair,
    analyze,
    assert_same_tables,
    callback_flags,
    encoder_state,
    fit,
    same_tensors,
)

PRUNE = "PruneCallback"  # by its name, as a user types it
SMALL = {
    "every_n_epochs": 2,
    "ratios": "[0.2]",
    "scope": "[model]",
    "modes": "[top,random]",
    "trials": 2,
    "num_views": 2,
}


@pytest.fixture(scope="module")
def pruned(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """An independent member of which copies were pruned at the end of its second epoch."""
    run = tmp_path_factory.mktemp("pruned") / "run"
    assert fit(run, *callback_flags(PRUNE, **SMALL), role="independent") == 0
    return RunDir(run)


def test_the_callback_gives_what_analyze_gives_and_logs_its_headline(pruned: RunDir) -> None:
    flags = ["--ratios=0.2", "--scope=model", "--modes", "top", "random", "--trials=2", "--views=2"]
    flags += ["--member=independent", f"--checkpoint={KEPT}", "--tag=after"]
    assert analyze(pruned.root, "prune", *flags) == 0
    during, after = (pruned.analysis("prune", tag) for tag in (f"independent-{KEPT}", "after"))
    assert_same_tables(during, after, ["effects", "table", "unitmem", "units"])
    metrics = read_table(pruned.member("independent").metrics)
    headline = read_json(after.summary, dict)["headline"]
    assert {name for name in metrics if name.startswith("prune/")} == {f"prune/{name}" for name in headline}
    for name, value in headline.items():
        measured = np.flatnonzero(np.isfinite(metrics[f"prune/{name}"]))
        assert measured.tolist() == [7]  # the last step of the second of three epochs
        assert metrics[f"prune/{name}"][7] == pytest.approx(value, abs=1e-6)


def test_training_is_left_as_it_was(pruned: RunDir, plain_pair: TinyPair) -> None:
    finished = [encoder_state(root, "independent") for root in (pruned.root, plain_pair.root)]
    assert same_tensors(*finished)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"ratios": "[0.02]", "scope": "[layer]"},
            "--trainer.callbacks.ratios 0.02: is none of the 32 units of layer1",
        ),
        ({"layers": "[res6]"}, "--trainer.callbacks.layers res6: its units are not rows of one layer's weights"),
        ({"trials": 0}, "--trainer.callbacks.trials 0: must be 1 or more"),
        ({"num_views": 0}, "--trainer.callbacks.num_views 0: must be 1 or more"),
        ({}, "--data.num_external 0: PruneCallback needs 2 or more"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_what_cannot_be_pruned_is_refused_before_training(
    options: dict[str, object], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [] if options else ["--data.num_external=0"]
    assert fit(tmp_path / "run", *callback_flags(PRUNE, **options), *flags) == 2
    assert words in capsys.readouterr().err.splitlines()[-1]
    assert not list(tmp_path.rglob("*.ckpt"))
