"""Tables of sequence experiments: mean over members with its interval, one row for each run, set and place.

A function decorated with `of_each` yields blocks of rows of one experiment; called with several it gives their table.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import wraps
from typing import Any, Concatenate, ParamSpec

import numpy as np

from memlight.analyses.sequence import columns
from memlight.analyses.sequence.experiment import Array, Experiment, difference_of_means, over_members
from memlight.sequences import measures
from memlight.storage.schema import Schema
from memlight.storage.tables import Table, table_of

MOST_BINS = 40
"""Groups of neighbouring ranks in a heat map."""

Block = Mapping[str, Any]
"""Columns of some rows of a table; single values stand for every row."""

P = ParamSpec("P")
OfOne = Callable[Concatenate[Experiment, P], Iterator[Block]]
OfSeveral = Callable[Concatenate[Sequence[Experiment], P], Table]


def of_each(schema: Schema) -> Callable[[OfOne[P]], OfSeveral[P]]:
    """Make a function of one experiment that yields blocks of rows give the table of several, with a column ``run``."""

    def decorate(blocks_of: OfOne[P]) -> OfSeveral[P]:
        @wraps(blocks_of)
        def table(experiments: Sequence[Experiment], /, *args: P.args, **kwargs: P.kwargs) -> Table:
            blocks = [{"run": one.name, **block} for one in experiments for block in blocks_of(one, *args, **kwargs)]
            return _joined(schema, blocks)

        return table

    return decorate


@of_each(columns.TABLE)
def curves_table(experiment: Experiment) -> Iterator[Block]:
    """Accuracy, loss and retrieval of every set at every evaluation since it exists: columns ``TABLE``."""
    results = experiment.results
    for index in range(experiment.sets):
        at = experiment.seen(index)
        steps, tested = results.eval_steps[at], results.test_accuracy[:, index, at]
        test = tested.mean(axis=-1) if tested.shape[-1] else np.full(tested.shape[:2], np.nan)
        yield {
            "set": index,
            "step": steps,
            "since_switch": steps - experiment.begins(index),
            "trained": np.isin(at, experiment.phase(index)),
            **_spread("accuracy", results.set_accuracy[:, index, at]),
            **_spread("loss", results.set_loss[:, index, at]),
            **_spread("test_accuracy", test),
            **_spread("retrieval", experiment.retrieval_EST[:, index, at]),
        }


@of_each(columns.SETS)
def sets_table(experiment: Experiment) -> Iterator[Block]:
    """Every set at the end of its own training, beside ceiling and floor, and at the very end: columns ``SETS``."""
    results = experiment.results
    for index, phase in experiment.phases():
        bounds = ("ceiling_accuracy", "ceiling_loss", "floor_accuracy", "floor_loss")
        yield {
            "set": index,
            "begins": experiment.begins(index),
            "ends": results.eval_steps[phase[-1]],
            "members": experiment.members,
            **_spread("accuracy", results.set_accuracy[:, index, phase[-1:]]),
            **_spread("loss", results.set_loss[:, index, phase[-1:]]),
            **{name: np.mean(getattr(results, name)[:, index]) for name in bounds},
            **_spread("retrieval", experiment.retrieval_EST[:, index, phase[-1:]]),
            **_spread("last_accuracy", results.set_accuracy[:, index, -1:]),
            **_spread("bits_per_parameter", experiment.bits_per_parameter(index)[:, None]),
        }


@of_each(columns.MEMBERS)
def members_table(experiment: Experiment, share: float) -> Iterator[Block]:
    """Every member by itself: columns ``MEMBERS``; for ``share`` see `Experiment.criterion`."""
    results = experiment.results
    for index, phase in experiment.phases():
        yield {
            "seed": results.seeds,
            "set": index,
            "accuracy": results.set_accuracy[:, index, phase[-1]],
            "loss": results.set_loss[:, index, phase[-1]],
            "retrieval": experiment.retrieval_EST[:, index, phase[-1]],
            "last_accuracy": results.set_accuracy[:, index, -1],
            "steps": experiment.steps_to_criterion(index, share),
            "savings": experiment.savings(index, share),
        }


@of_each(columns.TRAINING)
def training_table(experiment: Experiment) -> Iterator[Block]:
    """The training loss as it was logged: columns ``TRAINING``."""
    yield {"step": experiment.results.train_steps, **_spread("loss", experiment.results.train_loss)}


@of_each(columns.POSITIONS)
def positions_table(experiment: Experiment) -> Iterator[Block]:
    """Accuracy by the number of bits already seen, at the end of each set's own training: columns ``POSITIONS``."""
    for index, phase in experiment.phases():
        accuracy = experiment.results.position_accuracy[:, index, phase[-1]]
        yield {
            "set": index,
            "position": np.arange(accuracy.shape[-1]),
            **_spread("accuracy", accuracy),
            "ceiling": experiment.ceilings[index].by_position_N,
        }


@of_each(columns.RANKS)
def ranks_table(experiment: Experiment, *, grouped: bool = False) -> Iterator[Block]:
    """Every test sequence at the end of its set's own training: columns ``RANKS``.

    ``saturated`` is the share of members that got more than 90 % of its bits right at some evaluation, and
    ``appearances_at_saturation`` how often it had been drawn at the first such one, over those members. Where they are
    ``grouped``, a row is the mean over neighbouring ranks, at most `MOST_BINS` groups, and ``rank`` the middle of each.
    """
    results = experiment.results
    groups = rank_groups(results.test_rank, logarithmic=experiment.drawn_unevenly) if grouped else None
    for index, phase in experiment.phases():
        tested, drawn = (values[:, index][:, phase] for values in (results.test_accuracy, results.test_appearances))
        needed = measures.appearances_at_saturation(tested, drawn)
        yield {
            "set": index,
            "rank": _merged(results.test_rank, groups),
            "appearances": over_members(_merged(drawn[:, -1], groups))[0],
            **_spread("accuracy", _merged(tested[:, -1], groups)),
            **_spread("loss", _merged(results.test_loss[:, index, phase[-1]], groups)),
            "ceiling": _merged(experiment.ceilings[index].by_rank_R, groups),
            "saturated": _merged(np.isfinite(needed).mean(axis=0), groups),
            **_spread("appearances_at_saturation", _merged(needed, groups)),
        }


@of_each(columns.APPEARANCES)
def appearances_table(experiment: Experiment) -> Iterator[Block]:
    """Accuracy against appearances in a set's own training, sequences of all ranks together: columns ``APPEARANCES``.

    A bin holds 0, 1, 2 to 3, 4 to 7, ... appearances; ``appearances`` is the mean in it, ``sequences`` how many
    (sequence, evaluation) pairs a member has in it.
    """
    results, members = experiment.results, experiment.members
    for index, phase in experiment.phases():
        drawn = results.test_appearances[:, index][:, phase].reshape(members, -1)
        right = results.test_accuracy[:, index][:, phase].reshape(members, -1)
        known = np.isfinite(drawn)
        bins = np.where(drawn > 0, np.floor(np.log2(np.maximum(drawn, 1))) + 1, 0)
        for bin_ in np.unique(bins[known]):
            inside = (bins == bin_) & known
            yield {
                "set": index,
                "appearances": drawn[inside].mean(),
                **_spread("accuracy", _mean_where(right, inside)[:, None]),
                "sequences": inside.sum() / members,
            }


def rank_time_table(experiment: Experiment) -> Table:
    """Accuracy of groups of neighbouring ranks at every evaluation of every set: columns ``RANK_TIME``.

    At most `MOST_BINS` groups: of equal size, or of equal size on a logarithmic scale where low ranks are drawn more.
    """
    results, blocks = experiment.results, []
    groups = rank_groups(results.test_rank, logarithmic=experiment.drawn_unevenly)
    for index in range(experiment.sets):
        at = experiment.seen(index)
        for rows in groups:
            accuracy = results.test_accuracy[:, index][:, at][..., rows].mean(axis=-1)
            ends = {"rank_low": results.test_rank[rows[0]], "rank_high": results.test_rank[rows[-1]]}
            blocks.append({"set": index, "step": results.eval_steps[at], **ends, **_spread("accuracy", accuracy)})
    return _joined(columns.RANK_TIME, blocks)


@of_each(columns.LEARNED)
def learned_table(experiment: Experiment) -> Iterator[Block]:
    """The highest rank that is learned, at every evaluation of every set: columns ``LEARNED``; -1 is none."""
    results = experiment.results
    for index in range(experiment.sets) if len(results.test_rank) else ():
        at = experiment.seen(index)
        highest = measures.maximum_learned_rank(results.test_accuracy[:, index][:, at], results.test_rank)
        yield {"set": index, "step": results.eval_steps[at], **_spread("max_rank", highest)}


@of_each(columns.FORGETTING)
def forgetting_table(experiment: Experiment) -> Iterator[Block]:
    """Accuracy on every set at the end of every phase, and the share of what was learned that is left.

    Columns ``FORGETTING``; ``retained`` is (accuracy - floor) / (accuracy at the end of its own phase - floor).
    """
    results = experiment.results
    ends = {index: phase[-1] for index, phase in experiment.phases()}
    for after, at in ends.items():
        for index in (index for index in ends if index <= after):
            accuracy, floor = results.set_accuracy[:, index, at], results.floor_accuracy[:, index]
            learned = results.set_accuracy[:, index, ends[index]] - floor
            retained = (accuracy - floor) / np.where(learned > 0, learned, np.nan)
            left = {**_spread("accuracy", accuracy[:, None]), **_spread("retained", retained[:, None])}
            yield {"after": after, "set": index, **left}


def savings_table(experiments: Sequence[Experiment], share: float) -> Table:
    """How much faster a later set is learned than the first, beside the runs that are compared: columns ``SAVINGS``.

    ``difference`` is the first experiment's mean savings minus this one's.

    Args:
        experiments: the experiment, then those it is compared with, such as its controls.
        share: see `Experiment.criterion`.
    """
    first, blocks = experiments[0], []
    for experiment in experiments:
        for index in range(experiment.sets):
            steps, savings = experiment.steps_to_criterion(index, share), experiment.savings(index, share)
            difference = (float("nan"),) * 3
            if index and experiment is not first and index < first.sets:
                difference = difference_of_means(first.savings(index, share), savings)
            blocks.append(
                {
                    "run": experiment.name,
                    "set": index,
                    "members": experiment.members,
                    "reached": np.isfinite(steps).sum(),
                    **_spread("steps", steps[:, None]),
                    **_spread("savings", savings[:, None]),
                    **_with_ends("difference", difference),
                }
            )
    return _joined(columns.SAVINGS, blocks)


@of_each(columns.PROBES)
def probes_table(experiment: Experiment) -> Iterator[Block]:
    """Relearning probes: columns ``PROBES``; batches are a mean over the members that reached the criterion."""
    results = experiment.results
    if results.relearn_steps is None or results.relearn_needed is None or results.relearn_accuracy is None:
        return
    yield {
        "step": results.relearn_steps,
        "members": experiment.members,
        "reached": np.isfinite(results.relearn_needed).sum(axis=0),
        **dict(zip(("batches", "low", "high"), over_members(results.relearn_needed), strict=True)),
        "accuracy": over_members(results.relearn_accuracy)[0],
    }


@of_each(columns.SWAPS)
def swaps_table(experiment: Experiment) -> Iterator[Block]:
    """Accuracy with parts of an earlier snapshot swapped in, beside that without it: columns ``SWAPS``."""
    results = experiment.results
    if results.swap_steps is None or results.swap_accuracy is None:
        return
    for at, (step, name) in enumerate(zip(results.swap_steps.tolist(), results.swap_names, strict=True)):
        column = int(np.searchsorted(results.eval_steps, step, side="right")) - 1
        for index in np.flatnonzero(np.isfinite(results.swap_accuracy[:, :, at]).any(axis=0)).tolist():
            before = results.set_accuracy[:, index, column] if column >= 0 else np.full(experiment.members, np.nan)
            yield {
                "step": step,
                "swapped": name,
                "set": index,
                **_spread("accuracy", results.swap_accuracy[:, index, at][:, None]),
                "before": over_members(before)[0],
            }


@of_each(columns.WEIGHTS)
def weights_table(experiment: Experiment) -> Iterator[Block]:
    """Numbers of the attention A and the keys B of every snapshot: columns ``WEIGHTS``; none without such weights.

    Measures: ``A sharpness`` and ``B sharpness`` (mean over rows of their largest weight), ``A head correlation`` and
    ``B head correlation`` (mean over pairs of heads), ``A row correlation`` (neighbouring prefixes of the same head),
    ``A to B correlation`` (the longest prefix's row against the same head of B).
    """
    for step, weights in experiment.results.weights.items():
        if "A_logits" not in weights or "B_logits" not in weights:
            continue
        one_by_one = [
            _measures(weights["A_logits"][member : member + 1], weights["B_logits"][member : member + 1])
            for member in range(experiment.members)
        ]
        for measure in one_by_one[0]:
            spread = over_members(np.concatenate([measured[measure] for measured in one_by_one]))
            yield {"step": step, "measure": measure, **dict(zip(("value", "low", "high"), spread, strict=True))}


def attention_rows(A_logits: Array) -> Array:
    """``A(n)``: softmax over the first n entries of row n (METHODS, section 6).

    Args:
        A_logits: ``(E, N, H, N)``, or ``(E, H, N)`` where all prefixes share one row.

    Returns:
        ``(E, H, N, N)``: member, head, prefix length, bit; NaN where a bit is not in the prefix.
    """
    bits = A_logits.shape[-1]
    tied = A_logits.ndim == 3
    rows = np.repeat(A_logits[:, :, None], bits, axis=2) if tied else A_logits.swapaxes(1, 2)
    inside = np.arange(bits) < np.arange(bits)[:, None]
    return _softmax(np.where(inside, rows.astype(np.float64), -np.inf), inside)


def keys(B_logits: Array) -> Array:
    """``B``: softmax over bits of ``(..., H, N)``."""
    return _softmax(B_logits.astype(np.float64), np.ones(B_logits.shape[-1], dtype=bool))


def rank_groups(ranks: Array, *, logarithmic: bool) -> list[Array]:
    """Positions of ``(R,)`` ascending ranks in at most `MOST_BINS` groups, without empty ones."""
    if not len(ranks):
        return []
    place = np.log(np.arange(len(ranks)) + 1) if logarithmic else np.arange(len(ranks)).astype(np.float64)
    bins = np.minimum((place / max(place[-1], 1e-9) * min(MOST_BINS, len(ranks))).astype(int), MOST_BINS - 1)
    return [np.flatnonzero(bins == bin_) for bin_ in np.unique(bins)]


def _measures(A_logits: Array, B_logits: Array) -> dict[str, Array]:
    """``(E,)`` values of each measure of one snapshot."""
    A, B = attention_rows(A_logits), keys(B_logits)
    long = A[..., 2:, :]  # shorter prefixes have a weight of 1 whatever was learned
    last, first_bits = A[..., -1, :-1], B[..., :-1]
    heads = np.stack([last, first_bits], axis=-2)
    return {
        "A sharpness": np.nanmax(long, axis=-1).mean(axis=(1, 2)),
        "A head correlation": measures.head_correlation(last),
        "A row correlation": measures.prefix_row_correlation(A.swapaxes(1, 2)),
        "B sharpness": B.max(axis=-1).mean(axis=1),
        "B head correlation": measures.head_correlation(B),
        "A to B correlation": over_members(measures.head_correlation(heads).T)[0],
    }


def _joined(schema: Schema, blocks: Sequence[Block]) -> Table:
    """One table of blocks of rows; single values are repeated."""
    if not blocks:
        return table_of(schema, [])
    parts = [np.broadcast_arrays(*(np.atleast_1d(block[name]) for name in schema)) for block in blocks]
    return {name: np.concatenate(cells) for name, cells in zip(schema, zip(*parts, strict=True), strict=True)}


def _spread(name: str, values: Array) -> dict[str, Any]:
    """Columns of a mean over members ``(E, ...)`` and its interval."""
    return _with_ends(name, over_members(values))


def _with_ends(name: str, values: tuple[Any, Any, Any]) -> dict[str, Any]:
    return dict(zip((name, f"{name}_low", f"{name}_high"), values, strict=True))


def _merged(values: Array, groups: list[Array] | None) -> Array:
    """Means over groups of the last axis, of what is finite; the values themselves without groups."""
    if groups is None:
        return values
    finite = np.isfinite(values)
    return np.stack([_mean_where(values[..., rows], finite[..., rows]) for rows in groups], axis=-1)


def _mean_where(values: Array, inside: Array) -> Array:
    """Mean over the last axis of what is inside; NaN where nothing is."""
    count = inside.sum(axis=-1)
    mean: Array = np.where(inside, values, 0).sum(axis=-1) / np.where(count, count, np.nan)
    return mean


def _softmax(logits: Array, inside: Array) -> Array:
    """Over the last axis, of the entries inside; NaN outside them."""
    top = np.where(inside, logits, -np.inf).max(axis=-1, keepdims=True)
    powers = np.where(inside, np.exp(np.where(inside, logits - np.where(np.isfinite(top), top, 0), 0)), 0)
    total = powers.sum(axis=-1, keepdims=True)
    return np.where(inside, powers / np.where(total > 0, total, 1), np.nan)
