"""Result files of the authors' sequence experiments, read without running code that is in them.

Their transformers leave ``pickle.dump({"args", "logs", "model"})``, one log per evaluation; their attention with
associative memory ``torch.save({"args", "logs", "model_state_dict"})``, one log per gradient step. Either gives a
`memlight.sequences.results.SequenceResults` of one member, NaN where the file says nothing.
"""

import argparse
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memlight.errors import UserError
from memlight.sequences.results import SequenceResults
from memlight.storage.torch_files import read_torch

Array = NDArray[Any]

SUFFIXES = (".pkl", ".pickle", ".pt", ".pth")
"""How the names of such files end."""

AVERAGED_STEPS = 100
"""Gradient steps whose training batches make one point of a curve, where a file has a log for every step."""

LN2 = float(np.log(2))


def read_authors_results(path: Path) -> SequenceResults:
    """Read one of the authors' result files.

    Args:
        path: ``.pkl`` of their transformer or ``.pt`` of their attention with associative memory.

    Returns:
        One member. Of a transformer: training loss, and loss and accuracy of the test sequences by rank, which are
        also averaged without weights in place of the whole set. Of the associative memory: loss and accuracy of the
        training batches before they are learned, averaged over `AVERAGED_STEPS`, as those of the set then trained.

    Raises:
        UserError: it cannot be read, names something that could run code, or is another kind of file.
    """
    record = read_torch(path, "path", [])
    if not isinstance(record, Mapping) or not isinstance(record.get("logs"), Sequence) or not record["logs"]:
        held = "no logs" if isinstance(record, Mapping) else f"a {type(record).__name__}"
        held += " (sequences alone? give the file without _all_sequences)" if hasattr(record, "ndim") else ""
        raise UserError("path", path, f"not a result file of a sequence experiment: it holds {held}")
    try:
        return _from_steps(record) if "phase" in record["logs"][0] else _from_evaluations(record)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise UserError("path", path, f"its logs are not those of the authors' code ({error!r})") from error


def _from_steps(record: Mapping[str, Any]) -> SequenceResults:
    """Of the associative memory: a log for every gradient step, its phase before or after the switch."""
    logs, args = record["logs"], _plain_args(record["args"])
    phase = np.array([log["phase"] for log in logs])
    starts = [0, *(np.flatnonzero(phase[1:] != phase[:-1]) + 1).tolist(), len(logs)]
    values = np.array([[float(log["accuracy"]), float(log["loss"])] for log in logs])
    points = [
        (min(first + AVERAGED_STEPS, end), index, values[first : min(first + AVERAGED_STEPS, end)].mean(axis=0))
        for index, (start, end) in enumerate(pairwise(starts))
        for first in range(start, end, AVERAGED_STEPS)
    ]
    steps = np.array([step for step, _, _ in points])
    curves = np.full((2, 1, len(starts) - 1, len(points)), np.nan)
    for at, (_, index, both) in enumerate(points):
        curves[:, 0, index, at] = both
    state = record.get("model_state_dict", {})
    weights = {name: np.asarray(state[name])[None] for name in ("A_logits", "B_logits") if name in state}
    return _results(
        args,
        starts[1:-1],
        steps,
        curves,
        train=(steps, np.array([both[1] for _, _, both in points])),
        weights={starts[1] if len(starts) > 2 else len(logs): weights} if weights else {},
    )


def _from_evaluations(record: Mapping[str, Any]) -> SequenceResults:
    """Of the transformer: a log for every evaluation and the training that follows it."""
    logs, args = record["logs"], _plain_args(record["args"])
    trained = [_steps_of(log, args) for log in logs]
    after = np.cumsum(trained)
    steps = after - trained
    drawn = np.array([np.asarray(log["num_apppearances"]).sum() for log in logs])
    first_of_set = [0, *(np.flatnonzero(drawn[1:] < drawn[:-1]) + 1).tolist()]
    set_of_log = np.searchsorted(first_of_set, np.arange(len(logs)), side="right") - 1
    train = (after, np.array([float(log["train_loss"]) for log in logs]))
    switches = steps[first_of_set[1:]].tolist()
    sets = len(first_of_set)
    tested = [at for at, log in enumerate(logs) if log.get("test_metrics")]
    if not tested:
        curves = np.full((2, 1, sets, len(logs)), np.nan)
        for at, log in enumerate(logs):
            curves[:, 0, set_of_log[at], at] = _over_positions(log)
        return _results(args, switches, steps, curves, train=train)
    every = args.get("is_resample_tasks") == "Forget"
    ranks, metrics, appearances = _by_rank(logs, tested, set_of_log, every=every)
    return _results(
        args, switches, steps[tested], metrics.mean(axis=-1), train=train, tests=(ranks, metrics, appearances)
    )


def _by_rank(
    logs: Sequence[Mapping[str, Any]], tested: Sequence[int], set_of_log: Array, *, every: bool
) -> tuple[Array, Array, Array]:
    """Ranks, accuracy and loss ``(2, 1, S, T, R)`` and appearances ``(1, S, T, R)`` of the test sequences.

    Args:
        logs: of the file.
        tested: which of them hold test metrics.
        set_of_log: which set was trained at each.
        every: whether the test sequences are those of all sets so far, one behind the other, or of the last alone.
    """
    counts = [int(np.max(logs[at]["test_metrics"]["sequence_rank"])) + 1 for at in tested]
    sizes = [count // (set_of_log[at] + 1) if every else count for count, at in zip(counts, tested, strict=True)]
    size, sets = min(sizes), int(set_of_log.max()) + 1
    total = len(np.asarray(logs[0]["num_apppearances"]))
    ranks = np.arange(size) * (total // size)
    metrics = np.full((2, 1, sets, len(tested), size), np.nan)
    appearances = np.full((1, sets, len(tested), size), np.nan)
    for column, at in enumerate(tested):
        found = logs[at]["test_metrics"]
        for index in range(set_of_log[at] + 1) if every else (set_of_log[at],):
            rows = slice(index * size, (index + 1) * size) if every else slice(size)
            for which, name in enumerate(("accuracy", "logsoftmaxloss")):
                values = np.asarray(found[name], dtype=np.float64)[rows]
                metrics[which, 0, index, column] = values.reshape(size, -1).mean(axis=1)
        appearances[0, set_of_log[at], column] = np.asarray(logs[at]["num_apppearances"])[ranks]
    return ranks, metrics, appearances


def _over_positions(log: Mapping[str, Any]) -> tuple[float, float]:
    """Mean accuracy and loss over the positions of a log of sequences that are drawn uniformly.

    The last position is never filled by the authors' code. Accuracies are percentages where one exceeds 1.
    """
    accuracy, loss = (
        np.array([float(log[f"{name}_{n}"]) for n in range(sum(key.startswith(f"{name}_") for key in log) - 1)])
        for name in ("test_top1", "test_loss")
    )
    return float(accuracy.mean()) / (100 if accuracy.max() > 1 else 1), float(loss.mean())


def _steps_of(log: Mapping[str, Any], args: Mapping[str, Any]) -> int:
    """Gradient steps between one log and the next: batches that it names, or that its arguments make."""
    if "appearances" in log:
        return len(log["appearances"])
    return int(-(-1000 * args["num_iter_per_epoch"] // args["batch_size"]))


def _plain_args(args: Any) -> dict[str, Any]:
    """Arguments of the authors' program that are numbers, words or nothing."""
    named = vars(args) if isinstance(args, argparse.Namespace) else dict(args)
    return {str(name): value for name, value in named.items() if isinstance(value, int | float | str | type(None))}


def _results(
    args: dict[str, Any],
    switches: list[int],
    steps: Array,
    curves: Array,
    *,
    train: tuple[Array, Array],
    tests: tuple[Array, Array, Array] | None = None,
    weights: dict[int, dict[str, Array]] | None = None,
) -> SequenceResults:
    """One member; ``curves`` are accuracy and loss ``(2, 1, S, T)``, ``tests`` ranks, the same by rank, appearances."""
    sets, points = curves.shape[2:]
    none = np.full((1, sets, points, 0), np.nan)
    ranks, by_rank, appearances = tests or (np.arange(0), np.stack([none, none]), none)
    unknown = np.full((1, sets), np.nan)
    return SequenceResults(
        seeds=np.array([args.get("seed") or 0]),
        set_seeds=np.full((1, sets), -1),
        switch_start_iter=np.array(switches, dtype=np.int64),
        eval_steps=steps,
        set_accuracy=curves[0],
        set_loss=curves[1],
        test_rank=ranks,
        test_accuracy=by_rank[0],
        test_loss=by_rank[1],
        test_appearances=appearances,
        position_accuracy=none,
        train_steps=train[0],
        train_loss=train[1][None],
        ceiling_accuracy=unknown,
        ceiling_loss=unknown,
        floor_accuracy=np.full((1, sets), 0.5),
        floor_loss=np.full((1, sets), LN2),
        args=args,
        weights=weights or {},
    )
