"""Training of members: exact in the step, in the member, across blocks and restarts."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from memlight.callbacks import DataSwitch, Freeze, RelearnProbe, Snapshot
from memlight.errors import UserError
from memlight.models.dam import AttentionDAM
from memlight.models.transformer import OneLayerAttention
from memlight.modules.sequence.module import SequenceModule
from tests.close import NETWORK
from tests.modules.tiny_sequences import SaveAt, tiny_attention, tiny_dam, tiny_data, train

SWITCH = 6


def state(module: SequenceModule) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.network.state_dict().items()}


def assert_equal(one: Any, two: Any) -> None:
    if isinstance(one, Tensor):
        assert torch.equal(one.nan_to_num(-7), two.nan_to_num(-7)) if one.is_floating_point() else torch.equal(one, two)
    elif isinstance(one, dict):
        assert one.keys() == two.keys()
        for key in one:
            assert_equal(one[key], two[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(two)
        for first, second in zip(one, two, strict=True):
            assert_equal(first, second)
    else:
        assert one == two


def test_training_is_the_plain_loop() -> None:
    """Predict from the old memory, loss, update, remember; the second set from the switch on."""
    module, data = tiny_dam(replicas=1), tiny_data()
    train(module, DataSwitch([SWITCH]), data=data)
    dam = AttentionDAM(8, 2, 15, 10.0, init_std=1.0, seeds=[0])
    optimizer = torch.optim.Adam(dam.parameters(), lr=1e-2)
    losses = []
    for step in range(12):
        index = int(step >= SWITCH)
        batch = data.bits(index, [0])[0][data.ids(index, [0], step, 1)[0, 0]].float() * 2 - 1
        loss = dam.loss(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        dam.push(batch)
        losses.append(float(loss.detach()))
    torch.testing.assert_close(module.network.A_logits[0], dam.A_logits, **NETWORK)
    assert [step for step, _ in module.train_log] == [3, 6, 9, 12]
    for step, mean_E in module.train_log:
        assert float(mean_E) == pytest.approx(sum(losses[step - 3 : step]) / 3, rel=NETWORK["rtol"])
    assert losses[0] == pytest.approx(0.6931472)


def test_a_transformer_trains_as_by_backward() -> None:
    """Gradients of its products come transposed; a fused optimizer that does not see that moves other weights."""
    module, data = tiny_attention(replicas=1), tiny_data()
    train(module, data=data)
    network = OneLayerAttention(8, 2, 4, seeds=[0])
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    for step in range(12):
        batch = data.bits(0, [0])[0][data.ids(0, [0], step, 1)[0, 0]]
        optimizer.zero_grad()
        network.loss(batch).backward()
        optimizer.step()
    for name in network.names_in("mlp+head+embeddings"):
        ours = module.network.get_parameter(name)[0]
        torch.testing.assert_close(ours, network.get_parameter(name), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("make", [tiny_dam, tiny_attention])
def test_a_member_equals_its_solo_run(make: Any) -> None:
    together = make(replicas=2, init_seed=5)
    train(together, DataSwitch([SWITCH], memory="clear", optimizer="reset"))
    alone = make(replicas=1, init_seed=6)
    train(alone, DataSwitch([SWITCH], memory="clear", optimizer="reset"))
    for name, value in alone.network.named_parameters():
        torch.testing.assert_close(together.network.get_parameter(name)[1:], value, **NETWORK)


def test_blocks_and_evaluations_move_no_number() -> None:
    one, two = tiny_dam(block_steps=1), tiny_dam(block_steps=100)
    train(one, DataSwitch([SWITCH]), every=12)
    train(two, DataSwitch([SWITCH]), every=1)
    assert_equal(state(one), state(two))
    assert_equal(one.train_log, two.train_log)


@pytest.mark.parametrize("at", [4, SWITCH, 8])
def test_resumed_training_equals_the_uninterrupted_one(at: int, tmp_path: Path) -> None:
    """Before, at and after a switch, with frozen weights, snapshots and optimizer moments: bit for bit."""

    def act() -> list[Any]:
        return [Snapshot([SWITCH]), DataSwitch([SWITCH]), Freeze("A", [SWITCH])]

    whole = tiny_dam(momentum=0.9, optimizer="sgd", weight_decay=0.1)
    measured = train(whole, *act(), SaveAt(tmp_path, [at]))
    resumed = tiny_dam(momentum=0.9, optimizer="sgd", weight_decay=0.1)
    again = train(resumed, *act(), checkpoint=tmp_path / f"{at}.ckpt")
    assert_equal(state(resumed), state(whole))
    assert_equal(resumed.train_log, whole.train_log)
    assert_equal(resumed.events, whole.events)
    assert_equal(resumed.snapshots, whole.snapshots)
    assert_equal(again.state_dict(), measured.state_dict())


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_frozen_scopes_are_bit_identical(optimizer: Any) -> None:
    """With weight decay and momentum, which move weights without a gradient."""
    module = tiny_attention(optimizer=optimizer, weight_decay=0.5, momentum=0.9, learning_rate=0.1)
    train(module, Snapshot([5]), Freeze("attention+embeddings", [5], optimizer="reset"))
    names = module.network.names_in("attention+embeddings")
    for name, value in module.network.named_parameters():
        assert torch.equal(value, module.snapshots[5][name]) == (name in names)
    left = {id(parameter) for group in module.raw_optimizer.param_groups for parameter in group["params"]}
    assert left == {id(value) for name, value in module.network.named_parameters() if name not in names}


def test_everything_frozen_still_remembers() -> None:
    module = tiny_dam()
    train(module, Freeze("AB", [0]))
    assert torch.equal(module.network.A_logits, tiny_dam().network.A_logits)
    assert int(module.network.memory.pushed) == 12 * 6


def test_observers_change_nothing() -> None:
    plain, watched = tiny_dam(), tiny_dam()
    train(plain, every=12)
    train(watched, Snapshot([3]), RelearnProbe([5], "A", 6, 0.5, 20, 1), every=2)
    assert_equal(state(plain), state(watched))


def test_a_checkpoint_of_other_sequences_is_refused(tmp_path: Path) -> None:
    train(tiny_dam(), SaveAt(tmp_path, [4]))
    for says, module, data in (
        ("init_seed=1: the checkpoint was trained with 0", tiny_dam(init_seed=1), tiny_data()),
        ("num_sequences=21: the checkpoint was trained with 20", tiny_dam(), tiny_data(num_sequences=21)),
        ("seed=3: the checkpoint was trained with 0", tiny_dam(), tiny_data(seed=3)),
    ):
        with pytest.raises(UserError, match=says):
            train(module, data=data, checkpoint=tmp_path / "4.ckpt")


def test_bits_must_agree() -> None:
    with pytest.raises(UserError, match=r"model.num_bits=8: the sequences have `data.num_bits=9`"):
        train(tiny_dam(), data=tiny_data(num_bits=9))


@pytest.mark.parametrize(
    ("flag", "value"),
    [("learning_rate", 0.0), ("weight_decay", -1.0), ("block_steps", 0), ("momentum", 1.0), ("replicas", 0)],
)
def test_impossible_arguments(flag: str, value: float) -> None:
    with pytest.raises(UserError, match=rf"{flag}[ =]{value}"):
        tiny_dam(**{flag: value})


def test_a_lost_member_is_named() -> None:
    with pytest.raises(UserError, match=r"learning_rate=1e\+30: the loss of seeds \[0, 1"):
        train(tiny_attention(optimizer="sgd", learning_rate=1e30))
