"""Callbacks that measure do not change what they measure: training is bit-identical with and without them."""

from pathlib import Path

import lightning.pytorch as L
import numpy as np
import pytest
import torch

from memlight.storage.rundir import RunDir
from memlight.storage.tables import read_table
from tests.tiny_pair import (
    EPOCHS,
    KEPT,
    ROLES,
    TinyPair,
    callback_flags,
    checkpoint,
    encoder_state,
    fit,
    random_states,
    same_tensors,
)


def test_the_callbacks_measured(observed_pair: TinyPair) -> None:
    """Without this the comparisons below would be empty."""
    run = RunDir(observed_pair.root)
    done = sorted(path.name for path in (run.root / "analysis").iterdir())
    assert done == [f"layermem-{KEPT}", f"unitmem-{KEPT}", f"unitmem-independent-on-independent-{KEPT}"]


@pytest.mark.parametrize("role", ROLES)
def test_weights_buffers_and_optimizer_are_bit_identical(
    plain_pair: TinyPair, observed_pair: TinyPair, role: str
) -> None:
    assert same_tensors(encoder_state(plain_pair.root, role), encoder_state(observed_pair.root, role))
    for name in (KEPT, "last"):
        plain, observed = (checkpoint(pair.root, name, role) for pair in (plain_pair, observed_pair))
        assert any("running_var" in key for key in plain["state_dict"])
        for part in ("state_dict", "optimizer_states", "lr_schedulers", "global_step"):
            assert same_tensors(plain[part], observed[part]), part


@pytest.mark.parametrize("role", ROLES)
def test_random_generators_are_where_they_would_have_been(
    plain_pair: TinyPair, observed_pair: TinyPair, role: str
) -> None:
    assert plain_pair.random_states[role] == observed_pair.random_states[role]


@pytest.mark.parametrize("role", ROLES)
def test_what_training_logs_is_the_same_and_the_measurements_stand_beside_it(
    plain_pair: TinyPair, observed_pair: TinyPair, role: str
) -> None:
    plain, observed = (read_table(RunDir(pair.root).member(role).metrics) for pair in (plain_pair, observed_pair))
    for column, values in plain.items():
        assert observed[column].tobytes() == values.tobytes(), column
    added = {column.rpartition("/")[0] for column in observed.keys() - plain.keys()}
    unitmem = {"unitmem/mean", "unitmem/null_mean", "unitmem/held_out_mean"}
    layermem = {"layermem/contrast", "layermem/layermem", "layermem/auc_pair"}
    assert added == (unitmem if role == "candidate" else unitmem | layermem)
    table = read_table(RunDir(observed_pair.root).analysis("layermem", KEPT).table())
    if role == "independent":
        for name in ("contrast", "layermem"):
            logged = [observed[f"layermem/{name}/{layer}"][7] for layer in table["layer"]]
            assert logged == pytest.approx(table[name].tolist(), rel=1e-6)


def test_a_training_that_is_evaluated_is_the_one_that_is_not(plain_pair: TinyPair, tmp_path: Path) -> None:
    """`OnlineEvaluation` at the end of every epoch, and its probe at the end of the training."""
    run = RunDir(tmp_path / "run")
    assert fit(run.root, *callback_flags("OnlineEvaluation", every_n_epochs=1)) == 0
    assert random_states() == plain_pair.random_states["candidate"]
    assert same_tensors(encoder_state(run.root), encoder_state(plain_pair.root))
    for name in (KEPT, "last"):
        plain, evaluated = (checkpoint(root, name) for root in (plain_pair.root, run.root))
        for part in ("state_dict", "optimizer_states", "lr_schedulers", "global_step"):
            assert same_tensors(plain[part], evaluated[part]), part
    logged = read_table(run.member("candidate").metrics)
    accuracy = logged.pop("knn/top1")
    assert np.isfinite(accuracy).sum() == EPOCHS
    for column, values in read_table(RunDir(plain_pair.root).member("candidate").metrics).items():
        assert logged.pop(column).tobytes() == values.tobytes(), column
    assert not logged
    assert run.analysis("probe", "candidate").summary.is_file()


def test_the_random_state_is_one_that_observers_could_have_moved(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A callback that does draw is noticed: the comparison above can fail."""
    pair = {}
    for name, flags in {"still": [], "draws": callback_flags("tests.test_observers.Draws")}.items():
        root = tmp_path_factory.mktemp(name) / "run"
        assert fit(root, "--trainer.max_epochs=1", *flags) == 0
        pair[name] = torch.get_rng_state()
    assert not torch.equal(pair["still"], pair["draws"])


class Draws(L.Callback):
    """Takes one number from the global generator."""

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        torch.rand(1)
