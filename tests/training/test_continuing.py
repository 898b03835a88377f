"""Going on from a checkpoint of another run: the new settings hold, and what does not fit is refused at once."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from torch import nn

from memlight.errors import UserError
from memlight.modules import SimCLR
from memlight.modules.optim import OptimConfig, build_optimizer, build_schedule, keep_options
from memlight.storage.rundir import RunDir
from memlight.storage.tables import read_table
from memlight.training.continuing import require_continuable
from tests.test_bad_input import only_line
from tests.tiny_pair import EPOCHS, KEPT, TinyPair, checkpoint, fit, same_tensors


def kept(pair: TinyPair, name: str = KEPT) -> Path:
    return RunDir(pair.root).member("candidate").checkpoints / f"{name}.ckpt"


# The new settings hold


@pytest.mark.parametrize("name", ["sgd", "adamw", "lars"])
def test_a_schedule_goes_on_as_if_it_had_been_this_one_from_the_start(name: Any) -> None:
    def begin(lr: float, steps: int) -> tuple[Any, Any]:
        module = nn.Linear(3, 3)
        optimizer = build_optimizer(OptimConfig(name, lr=lr, weight_decay=lr, lr_batch_size=0), [module], 16)
        schedule = build_schedule(optimizer, total_steps=steps, warmup_steps=4)
        keep_options(optimizer)
        return optimizer, schedule

    def step(optimizer: Any, schedule: Any, times: int) -> None:
        for _ in range(times):
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    parameter.grad = torch.ones_like(parameter)
            optimizer.step()
            schedule.step()

    before, other = begin(0.1, 10), begin(0.3, 30)
    step(*before, 6)
    step(*other, 6)
    now = begin(0.3, 30)
    now[0].load_state_dict(before[0].state_dict())
    now[1].load_state_dict(before[1].state_dict())
    assert same_tensors(now[0].state_dict()["state"], before[0].state_dict()["state"])
    assert same_tensors(now[0].state_dict()["param_groups"], other[0].state_dict()["param_groups"])
    step(*now, 3)
    step(*other, 3)
    assert now[1].state_dict() == other[1].state_dict()
    assert [group["lr"] for group in now[0].param_groups] == [group["lr"] for group in other[0].param_groups]


def test_another_training_goes_on_with_the_new_rate_and_length(plain_pair: TinyPair, tmp_path: Path) -> None:
    new = [f"--trainer.max_epochs={EPOCHS + 2}", "--model.optim.lr=0.02", "--model.optim.weight_decay=0.01"]
    assert fit(tmp_path / "whole", *new) == 0
    assert fit(tmp_path / "run", *new, f"--ckpt_path={kept(plain_pair)}") == 0
    whole, gone_on = (read_table(RunDir(tmp_path / name).member("candidate").metrics) for name in ("whole", "run"))
    assert gone_on["step"].tolist() == list(range(8, 20))
    np.testing.assert_array_equal(gone_on["lr-SGD/pg1"], whole["lr-SGD/pg1"][8:])
    ours, theirs = (checkpoint(tmp_path / name) for name in ("run", "whole"))
    assert ours["lr_schedulers"] == theirs["lr_schedulers"]
    assert [one["param_groups"] for one in ours["optimizer_states"]] == [
        one["param_groups"] for one in theirs["optimizer_states"]
    ]
    assert not same_tensors(ours["state_dict"], theirs["state_dict"])


# What does not fit


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--model.output_dim=64"], "the weights of another method, head or encoder (head.layers.3.weight: 128 x 256"),
        (["--model=VICReg", "--model.hidden_dim=8"], "was trained with simclr, not with vicreg"),
        (["--model.optim.name=adamw"], "was trained with another optimizer than adamw"),
        (["--model.optim.name=lars"], "was trained with another optimizer than lars"),
        (["--trainer.max_epochs=1"], "was trained for 2 epochs, more than --trainer.max_epochs 1"),
        (["--trainer.accumulate_grad_batches=2"], "did 8 gradient steps in 2 epochs, where an epoch now has 2"),
        (["--trainer.limit_train_batches=3"], "did 8 gradient steps in 2 epochs, where an epoch now has 3"),
    ],
)
def test_another_training_is_refused_before_anything_is_written(
    plain_pair: TinyPair, tmp_path: Path, flags: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = kept(plain_pair)
    assert fit(tmp_path / "run", f"--ckpt_path={path}", *flags) == 2
    line = only_line(capsys)
    assert line.startswith(f"--ckpt_path {path}: ")
    assert words in line
    assert not (tmp_path / "run" / "config.yaml").exists()
    assert not (tmp_path / "run" / "splits.json").exists()


def test_a_damaged_checkpoint_is_refused_before_anything_is_written(
    plain_pair: TinyPair, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = checkpoint(plain_pair.root)
    del content["optimizer_states"]
    torch.save(content, tmp_path / "damaged.ckpt")
    assert fit(tmp_path / "run", f"--ckpt_path={tmp_path / 'damaged.ckpt'}") == 2
    assert "holds no state of an optimizer" in only_line(capsys)
    assert not (tmp_path / "run" / "config.yaml").exists()


def put(value: Any, *keys: Any) -> Callable[[dict[str, Any]], None]:
    """Set what lies behind some keys; "gone" deletes it."""

    def change(content: Any) -> None:
        for key in keys[:-1]:
            content = content[key]
        if value == "gone":
            del content[keys[-1]]
        else:
            content[keys[-1]] = value

    return change


JUNK: list[tuple[Any, ...]] = [
    *((value, key) for key in ("epoch", "global_step") for value in ("gone", "seven", -1, 1.5, None)),
    *((value, "pytorch-lightning_version") for value in ("gone", "new", "1.4.0", 2)),
    *((value, key) for key in ("state_dict", "loops", "lr_schedulers") for value in ("gone", {}, [], 3)),
    *((value, "optimizer_states") for value in ("gone", {}, [], [{}], [3], [{"state": {}, "param_groups": []}])),
    *((value, "loops", "fit_loop") for value in ("gone", [], {"epoch_progress": {}})),
    *((value, "loops", "fit_loop", "epoch_progress", "current", "completed") for value in ("gone", "two", -4)),
    *((value, "optimizer_states", 0, "state", 0, "momentum_buffer") for value in ("x", torch.zeros(2))),
    *((value, "optimizer_states", 0, "param_groups", 0, "params") for value in ("gone", [[]], [0, 0], {"a": 1})),
    *((value, "optimizer_states", 0, "state") for value in ({"x": 1}, {10**9: {}}, [])),
    *((value, "lr_schedulers", 0, "last_epoch") for value in ("gone", "late", [1])),
    *((value, "state_dict", "encoder.layer1.conv.weight") for value in ("gone", "x", torch.zeros(1).to_sparse())),
    (torch.zeros(64, 3, 3, 3, dtype=torch.complex64), "state_dict", "encoder.layer1.conv.weight"),
    (torch.zeros(3), "state_dict", "another"),
    *((value, "callbacks") for value in ([], "x", 3)),
]


@pytest.mark.parametrize("case", JUNK, ids=lambda case: f"{case[1:]} {str(case[0])[:20]}")
def test_junk_in_a_checkpoint_is_a_sentence(plain_pair: TinyPair, case: tuple[Any, ...]) -> None:
    content = copy.deepcopy(checkpoint(plain_pair.root))
    require(content)
    put(*case)(content)
    with pytest.raises(UserError, match=r"^refused: "):
        require(content)


def require(content: dict[str, Any]) -> None:
    module, trainer = SimCLR(image_size=16), L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    optimizer = build_optimizer(module.optim, module.trained_modules(), 16)
    require_continuable(
        content,
        module,
        optimizer,
        trainer,
        lambda why: UserError(f"refused: {why}"),
        schedules=1,
        callbacks=[],
    )


def test_what_a_callback_remembers_is_of_its_kind(
    plain_pair: TinyPair, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = checkpoint(plain_pair.root)
    for state in content["callbacks"].values():
        state["best_model_path"] = 7
    torch.save(content, tmp_path / "damaged.ckpt")
    assert fit(tmp_path / "run", f"--ckpt_path={tmp_path / 'damaged.ckpt'}") == 2
    assert "best_model_path is no str" in only_line(capsys)
