"""Whether a sequence experiment can go on from a checkpoint, told before anything is written."""

from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from torch import Tensor
from torch.optim import Optimizer

from memlight.errors import UserError
from memlight.modules.sequence.module import STATE_KEY, SequenceModule, read_sequence_checkpoint
from memlight.sequences.evaluation import SequenceEvaluation
from memlight.training.continuing import Refuse, require_continuable, require_kinds

_LED = 2
"""How many axes a tensor has: members, and sets."""

_ROW = {"accuracy": _LED, "loss": _LED, **dict.fromkeys(("position_accuracy", "test_accuracy", "test_loss"), 3)}
_ROW["test_appearances"] = 3


def require_sequence_checkpoint(path: Path, module: SequenceModule, trainer: L.Trainer, data: Any) -> None:
    """Refuse a checkpoint that an experiment cannot go on from.

    Args:
        path: the file.
        module: all members, built; not changed.
        trainer: with its callbacks and number of steps; not changed.
        data: the `SequenceDataModule`.

    Raises:
        UserError: it is missing, broken, of other sequences, members or networks, or beyond the last step.
    """
    content = read_sequence_checkpoint(path)

    def refuse(why: str) -> UserError:
        return UserError("ckpt_path", path, why, "give a checkpoint of this experiment")

    state, members = content[STATE_KEY], module.members
    weights = dict(module.network.named_parameters())
    kinds = {"identity": module.identity(data), "frozen": [], "snapshots": {}, "events": [], "train_log": []}
    require_kinds({**kinds, "loss_sum": None, "loss_steps": 0}, state, STATE_KEY, refuse)
    module.require_identity(state["identity"], data)
    frozen = set(map(str, state["frozen"]))
    if not frozen <= weights.keys():
        raise refuse("was trained with frozen weights that this network has not")
    callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    others = [callback for callback in callbacks if not isinstance(callback, SequenceEvaluation)]
    optimizer = _optimizer(module, frozen)
    require_continuable(content, module, optimizer, trainer, refuse, schedules=0, callbacks=others)
    done = content["loops"]["fit_loop"]["epoch_loop.manual_optimization.optim_step_progress"]["total"]["completed"]
    if done > trainer.max_steps:
        raise refuse(f"has done {done} gradient steps, more than `trainer.max_steps={trainer.max_steps}`")
    for step, copies in state["snapshots"].items():
        require_kinds({"step": 0, "copies": weights}, {"step": step, "copies": copies}, "snapshots", refuse)
    for event in state["events"]:
        require_kinds({"step": 0, "kind": "", "words": ""}, event, "events", refuse)
    losses = [*state["train_log"], *([] if state["loss_sum"] is None else [(0, state["loss_sum"])])]
    for entry in losses:
        if not isinstance(entry, list | tuple) or len(entry) != 2:
            raise refuse("is not of this experiment, or damaged (train_log)")
        require_kinds([0, torch.zeros(members)], entry, "train_log", refuse)
    for callback in callbacks:
        if isinstance(callback, SequenceEvaluation):
            _require_measured(content.get("callbacks", {}).get(callback.state_key), members, data, weights, refuse)


def _optimizer(module: SequenceModule, frozen: set[str]) -> Optimizer:
    """As the training will have it: over what is trained and not frozen."""
    optimizer = module.make_optimizer(module.network)
    trained = [one for name, one in module.network.named_parameters() if one.requires_grad and name not in frozen]
    optimizer.param_groups[0]["params"] = trained
    return optimizer


def _require_measured(found: Any, members: int, data: Any, weights: dict[str, Any], refuse: Refuse) -> None:
    """Refuse measurements that results cannot be made of."""
    names = ("rows", "swaps", "probes", "drawn_SEK", "weights")
    measured = {name.removeprefix("_"): value for name, value in found.items()} if isinstance(found, dict) else None
    if measured is None or sorted(measured) != sorted(names):
        raise refuse("holds nothing that was measured of an experiment")
    require_kinds({**{name: [] for name in names[:4]}, "weights": {}}, measured, "SequenceEvaluation", refuse)
    if not measured["rows"]:
        raise refuse("holds nothing that was measured of an experiment")
    first = measured["rows"][0]
    also = [name for name in first if name not in ("step", *_ROW)] if isinstance(first, dict) else []
    for name, tensors, plain in (
        ("rows", {**_ROW, **dict.fromkeys(also, _LED)}, {"step": 0}),
        ("swaps", {"accuracy": _LED, "loss": _LED}, {"step": 0, "name": ""}),
        ("probes", {}, {"step": 0, **{kind: torch.zeros(members) for kind in ("needed", "accuracy")}}),
    ):
        for row in measured[name]:
            require_kinds({**plain, **dict.fromkeys(tensors)}, row, name, refuse)
            for key, axes in tensors.items():
                if not isinstance(row[key], Tensor) or row[key].dim() != axes or len(row[key]) != members:
                    raise refuse(f"is not of this experiment, or damaged ({name}.{key})")
    drawn = torch.zeros(members, data.num_sequences, dtype=torch.int64)
    require_kinds([drawn] * len(measured["drawn_SEK"]), measured["drawn_SEK"], "drawn_SEK", refuse)
    for step, copies in measured["weights"].items():
        require_kinds({"step": 0, "copies": weights}, {"step": step, "copies": copies}, "weights", refuse)
