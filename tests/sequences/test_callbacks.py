"""Interventions in sequence training, each against what it says it does, and what each refuses."""

from typing import Any

import numpy as np
import pytest
import torch

from memlight.callbacks import (
    DataSwitch,
    Freeze,
    Reinit,
    RelearnProbe,
    ResetOptimizer,
    Restore,
    SequenceEvaluation,
    Shuffle,
    Snapshot,
    Swap,
)
from memlight.errors import UserError
from tests.modules.tiny_sequences import tiny_attention, tiny_dam, tiny_data, train


def test_evaluation_is_the_mean_over_sequences_as_they_are_drawn() -> None:
    module, data = tiny_dam(), tiny_data()
    evaluation = train(module, DataSwitch([6]), data=data)
    results = evaluation.results(module)
    assert results.eval_steps.tolist() == [0, 4, 6, 8, 12]
    assert results.switch_start_iter.tolist() == [6]
    assert results.set_accuracy.shape == (3, 2, 5) and results.position_accuracy.shape == (3, 2, 5, 8)
    assert np.isnan(results.set_loss[:, 1, :3]).all() and np.isfinite(results.set_loss[:, 1, 3:]).all()
    for member in range(3):
        for index in range(2):
            drawn = data.set(index, member)
            signed = drawn.bits.float()[None].expand(3, -1, -1) * 2 - 1
            with torch.no_grad():
                p_KN = module.network(signed)[member].double().clamp(1e-6, 1 - 1e-6)
            right = loss = unweighted = 0.0
            for rank, p_r in enumerate(drawn.probabilities.tolist()):
                for n in range(1, 8):
                    bit = int(drawn.bits[rank, n])
                    right += p_r * float((float(p_KN[rank, n]) > 0.5) == bit) / 7
                    nats = -float(np.log(float(p_KN[rank, n] if bit else 1 - p_KN[rank, n])))
                    loss, unweighted = loss + p_r * nats / 7, unweighted + nats / 7 / len(drawn.bits)
            assert results.set_accuracy[member, index, -1] == pytest.approx(right, rel=1e-5)
            assert results.set_loss[member, index, -1] == pytest.approx(loss, rel=1e-3)
            assert results.set_loss_unweighted is not None
            assert results.set_loss_unweighted[member, index, -1] == pytest.approx(unweighted, rel=1e-3)
    ids = data.ids(1, [2], 6, 6).flatten()
    assert results.test_rank.tolist() == [0, 10]
    assert results.test_appearances[2, 1, -1].tolist() == [int((ids == 0).sum()), int((ids == 10).sum())]
    assert (results.set_accuracy <= 1).sum() == 3 * 7 and (results.ceiling_accuracy < 1).all()
    assert sorted(results.weights) == [6, 12] and results.retrieval_top1 is not None


def test_memory_cleared_at_a_switch_holds_only_the_second_set() -> None:
    kept, cleared = tiny_dam(capacity=500), tiny_dam(capacity=500)
    train(kept, DataSwitch([6]))
    train(cleared, DataSwitch([6], memory="clear"))
    assert int(kept.network.memory.pushed) == 12 * 6 and int(cleared.network.memory.pushed) == 6 * 6
    assert [event["kind"] for event in cleared.events] == ["data_switch"]
    assert cleared.events[0]["step"] == 6


def test_restore_puts_a_scope_back_and_swap_only_looks() -> None:
    module = tiny_attention()
    evaluation = train(module, Snapshot([3]), Restore("mlp", 3, [7]), Snapshot([7]), Swap("mlp+head", 3))
    names = module.network.names_in("mlp")
    for name, value in module.snapshots[7].items():
        assert torch.equal(value, module.snapshots[3][name]) == (name in names)
    results = evaluation.results(module)
    assert results.swap_names == ["mlp+head@3"] and results.swap_steps is not None
    assert results.swap_steps.tolist() == [12] and results.swap_loss is not None
    with torch.no_grad():
        for name in module.network.names_in("mlp+head"):
            module.network.get_parameter(name).copy_(module.snapshots[3][name])
    again = module.measure(1)
    assert results.swap_loss[:, 0, 0] == pytest.approx(again["loss"][:, 0].numpy(), rel=1e-6)
    assert results.set_loss[:, 0, -1] != pytest.approx(again["loss"][:, 0].numpy(), rel=1e-6)


def test_a_swap_leaves_the_training_as_it_is() -> None:
    plain, swapped = tiny_attention(), tiny_attention()
    train(plain, Snapshot([3]))
    train(swapped, Snapshot([3]), Swap("head", 3, [6, 12]))
    for name, value in plain.network.named_parameters():
        assert torch.equal(value, swapped.network.get_parameter(name))


def test_controls_change_what_they_name() -> None:
    module = tiny_attention(learning_rate=1e-12)
    train(
        module, Snapshot([4]), Shuffle("mlp", [4]), Reinit("c_attn", [4], std=2.0), ResetOptimizer([4]), Snapshot([5])
    )
    before, after = module.snapshots[4], module.snapshots[5]
    for name in module.network.names_in("mlp"):
        assert torch.allclose(after[name].sort().values.sum(), before[name].sort().values.sum(), atol=1e-5)
    weight = module.network.names_in("c_attn")[0]
    assert float(after[weight].std()) == pytest.approx(2.0, rel=0.2) and float(before[weight].std()) < 0.1
    assert {int(state["step"]) for state in module.raw_optimizer.state.values()} == {12 - 4}
    assert {event["kind"] for event in module.events} == {"snapshot", "shuffle", "reinit", "reset_optimizer"}


def test_relearn_probe_counts_the_batches_of_a_fork() -> None:
    module = tiny_dam(init_std=0.5)
    evaluation = train(module, RelearnProbe([4], "A", 6, 0.6, 30, 1))
    results = evaluation.results(module)
    assert results.relearn_needed is not None and results.relearn_needed.shape == (3, 1)
    assert results.relearn_steps is not None and results.relearn_steps.tolist() == [4]
    assert np.nanmin(results.relearn_needed) >= 1 and results.relearn_needed[np.isfinite(results.relearn_needed)].size
    never = train(tiny_dam(), RelearnProbe([4], "AB", 6, 0.7, 1, 1)).results(module)
    assert never.relearn_needed is not None and np.isnan(never.relearn_needed).any()


@pytest.mark.parametrize(
    ("callback", "says"),
    [
        (lambda: DataSwitch([12]), r"DataSwitch.at=12: the training ends after `max_steps=12`"),
        (lambda: DataSwitch([]), r"DataSwitch.at: give gradient steps"),
        (lambda: Snapshot([-1]), r"Snapshot.at=-1: give gradient steps"),
        (lambda: Freeze("mpl", [3]), r"Freeze.scope='mpl': .*no 'mpl'.*A, B, AB"),
        (lambda: Reinit("c_attn", [3]), r"Reinit.scope='c_attn': .*A, B, AB"),
        (lambda: Restore("A", 3, [5]), r"Restore.snapshot=3: no Snapshot is taken at that step, only at \[\]"),
        (lambda: Swap("A", 3), r"Swap.snapshot=3: no Snapshot"),
        (lambda: RelearnProbe([3], "A", 1000), r"RelearnProbe.num_sequences=1000: .*only 256 distinct"),
        (lambda: RelearnProbe([3], "A", 100, 0.99), r"RelearnProbe.criterion=0.99: who knows the 100 sequences"),
        (lambda: RelearnProbe([3], "A", 10, 1.5), r"RelearnProbe.criterion=1.5: an accuracy"),
        (lambda: RelearnProbe([3], "A", 10, 0.5, 0), r"RelearnProbe.limit=0: must be 1 or more"),
        (lambda: SequenceEvaluation(0), r"SequenceEvaluation.every=0: must be 1 or more"),
    ],
)
def test_bad_input_is_refused_before_the_first_step(callback: Any, says: str) -> None:
    module = tiny_dam()
    with pytest.raises(UserError, match=says):
        train(module, callback())
    assert not module.train_log
