"""The files of one sequence experiment: ``results.npz``, ``sequences.npz``, ``summary.json``. Numpy only."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memlight.errors import UserError
from memlight.storage.arrays import DAMAGED, read_npz
from memlight.storage.documents import parse_json
from memlight.storage.run_files import SequenceEvent
from memlight.storage.tables import write_json
from memlight.storage.writing import atomic_write

Array = NDArray[Any]

RESULTS, SEQUENCES, SUMMARY = "results.npz", "sequences.npz", "summary.json"

_WEIGHTS = "weights/"

_TEXTS: dict[str, Any] = {"events": list[SequenceEvent], "args": dict[str, Any], "swap_names": list[str]}
"""What is JSON within the arrays."""

_BY_SET, _BY_RANK = ("members", "sets", "steps"), ("members", "sets", "steps", "ranks")

_AXES: dict[str, tuple[str, ...]] = {
    "seeds": ("members",),
    "set_seeds": ("members", "sets"),
    "switch_start_iter": ("switches",),
    "eval_steps": ("steps",),
    **{name: _BY_SET for name in ("set_accuracy", "set_loss", "set_loss_unweighted", "retrieval_top1")},
    "test_rank": ("ranks",),
    **{name: _BY_RANK for name in ("test_accuracy", "test_loss", "test_appearances")},
    "position_accuracy": (*_BY_SET, "bits"),
    "train_steps": ("logged",),
    "train_loss": ("members", "logged"),
    **{f"{end}_{what}": ("members", "sets") for end in ("ceiling", "floor") for what in ("accuracy", "loss")},
    "relearn_steps": ("probes",),
    **{name: ("members", "probes") for name in ("relearn_needed", "relearn_accuracy")},
    "swap_steps": ("swaps",),
    **{name: ("members", "sets", "swaps") for name in ("swap_accuracy", "swap_loss")},
}
"""What the axes of an array count; those of one name are equally long, and there is one switch less than sets."""


@dataclass
class SequenceResults:
    """What was measured while E members were trained on S sequence sets, one after the other.

    Numbers of a set are NaN at evaluations before it exists. Losses are nats per counted bit.

    Attributes:
        seeds: ``(E,)`` of the members.
        set_seeds: ``(E, S)`` what each member's sets are made from.
        switch_start_iter: ``(S - 1,)`` gradient steps done when each later set began.
        eval_steps: ``(T,)`` gradient steps done at each evaluation.
        set_accuracy: ``(E, S, T)`` over all sequences of a set, weighted as they are drawn.
        set_loss: ``(E, S, T)`` over all sequences of a set, weighted as they are drawn.
        test_rank: ``(R,)`` ranks (rows) of the test sequences.
        test_accuracy: ``(E, S, T, R)`` of each over its counted bits.
        test_loss: ``(E, S, T, R)``.
        test_appearances: ``(E, S, T, R)`` how often each was drawn for training so far.
        position_accuracy: ``(E, S, T, N)`` by number of bits already seen, weighted as they are drawn.
        train_steps: ``(T2,)`` gradient steps done at each logged training loss.
        train_loss: ``(E, T2)`` mean since the one before.
        ceiling_accuracy: ``(E, S)`` of the Bayes posterior that knows the set and its law; NaN where not computed.
        ceiling_loss: ``(E, S)`` of the same posterior.
        floor_accuracy: ``(E, S)`` of one half at every bit.
        floor_loss: ``(E, S)`` ln 2.
        events: what was done to the members, each with ``step``, ``kind`` and ``words``.
        args: the whole configuration.
        set_loss_unweighted: ``(E, S, T)`` over all sequences of a set, each counting alike; None of older runs.
        retrieval_top1: ``(E, S, T)`` how often the best-scoring memory is the right one; only of a memory model.
        weights: arrays by name, by gradient steps done: before each switch and at the end.
        sequences: one ``uint8 (K, N)`` or ``(E, K, N)`` per set.
        relearn_steps: ``(P,)`` gradient steps done at each relearning probe.
        relearn_needed: ``(E, P)`` batches until the criterion; NaN where it was not reached.
        relearn_accuracy: ``(E, P)`` at the probe's end.
        swap_steps: ``(Q,)`` gradient steps done at each evaluation with parts of an earlier snapshot.
        swap_names: what was swapped in at each, ``<scope>@<snapshot's step>``.
        swap_accuracy: ``(E, S, Q)``.
        swap_loss: ``(E, S, Q)``.
    """

    seeds: Array
    set_seeds: Array
    switch_start_iter: Array
    eval_steps: Array
    set_accuracy: Array
    set_loss: Array
    test_rank: Array
    test_accuracy: Array
    test_loss: Array
    test_appearances: Array
    position_accuracy: Array
    train_steps: Array
    train_loss: Array
    ceiling_accuracy: Array
    ceiling_loss: Array
    floor_accuracy: Array
    floor_loss: Array
    events: list[dict[str, Any]] = field(default_factory=list)
    args: dict[str, Any] = field(default_factory=dict)
    set_loss_unweighted: Array | None = None
    retrieval_top1: Array | None = None
    weights: dict[int, dict[str, Array]] = field(default_factory=dict)
    sequences: list[Array] = field(default_factory=list)
    relearn_steps: Array | None = None
    relearn_needed: Array | None = None
    relearn_accuracy: Array | None = None
    swap_steps: Array | None = None
    swap_names: list[str] = field(default_factory=list)
    swap_accuracy: Array | None = None
    swap_loss: Array | None = None

    def write(self, run: Path) -> None:
        """Write the three files into a run directory; ``summary.json`` last, so where it is the others are."""
        arrays = {name: value for name, value in vars(self).items() if isinstance(value, np.ndarray)}
        for step, named in self.weights.items():
            arrays |= {f"{_WEIGHTS}{name}/{step}": value for name, value in named.items()}
        texts = {name: np.array(json.dumps(getattr(self, name))) for name in ("events", "args", "swap_names")}
        _write_npz(run / SEQUENCES, {f"bits_{index}": bits for index, bits in enumerate(self.sequences)})
        _write_npz(run / RESULTS, {**arrays, **texts})
        write_json(run / SUMMARY, self.summary())

    @classmethod
    def read(cls, run: Path) -> "SequenceResults":
        """Read the files of a run directory.

        Raises:
            UserError: they are missing or broken.
        """
        if not (run / RESULTS).is_file():
            why = f"no {RESULTS}; it is not a sequence experiment, or not finished: train it with"
            raise UserError("run", run, f"{why} `train.py fit --config configs/sequence/...`")
        try:
            arrays, bits = read_npz(run / RESULTS), read_npz(run / SEQUENCES)
            weights: dict[int, dict[str, Array]] = {}
            for key in [key for key in arrays if key.startswith(_WEIGHTS)]:
                name, step = key.removeprefix(_WEIGHTS).rsplit("/", 1)
                weights.setdefault(int(step), {})[name] = arrays.pop(key)
            texts: dict[str, Any] = {name: parse_json(str(arrays.pop(name)), kind) for name, kind in _TEXTS.items()}
            sequences = [bits[f"bits_{index}"] for index in range(len(bits))]
            _require_shapes(arrays)
            fields: dict[str, Any] = {**arrays, **texts}
            return cls(**fields, weights=dict(sorted(weights.items())), sequences=sequences)
        except (*DAMAGED, KeyError, TypeError) as error:
            raise UserError("run", run, f"{RESULTS} or {SEQUENCES} cannot be read ({error})", "train again") from error

    def summary(self) -> dict[str, Any]:
        """Headline numbers: per set, mean over members at its last evaluation before the next set, and at the end."""
        sets = []
        for index, end_of_set in enumerate([*self.switch_start_iter.tolist(), np.inf]):
            at = int(np.flatnonzero(self.eval_steps <= end_of_set)[-1])
            before, end = self.set_accuracy[:, index, at], self.set_accuracy[:, index, -1]
            sets.append(
                {
                    "accuracy": float(before.mean()),
                    "loss": float(self.set_loss[:, index, at].mean()),
                    "accuracy_by_member": before,
                    "accuracy_at_end": float(end.mean()),
                    "ceiling_accuracy": float(self.ceiling_accuracy[:, index].mean()),
                    "ceiling_loss": float(self.ceiling_loss[:, index].mean()),
                    "evaluated_at_step": int(self.eval_steps[at]),
                }
            )
        return {
            "members": len(self.seeds),
            "seeds": self.seeds,
            "switch_start_iter": self.switch_start_iter,
            "sets": sets,
            "events": self.events,
            "args": self.args,
        }


def _write_npz(path: Path, arrays: dict[str, Any]) -> None:
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)


def _require_shapes(arrays: Mapping[str, Array]) -> None:
    """Refuse arrays that are not of the members, sets, steps and ranks of one experiment.

    Raises:
        ValueError: one is unknown, is not made of numbers, or of another shape than the others.
    """
    sides: dict[str, int] = {}
    for name, array in arrays.items():
        axes = _AXES[name]
        if array.ndim != len(axes) or array.dtype.kind not in "biuf":
            raise ValueError(f"{name} is {array.dtype} {array.shape}")
        for axis, side in zip(axes, array.shape, strict=True):
            side += axis == "switches"
            if sides.setdefault("sets" if axis == "switches" else axis, side) != side:
                raise ValueError(f"{name} has {side} {axis}, and others have {sides[axis]}")
