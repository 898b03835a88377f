"""Sequence experiments by rank: which sequences of a set are learned, when, after how many appearances."""

from collections.abc import Sequence

import numpy as np

from memlight.analyses.sequence import columns
from memlight.analyses.sequence.ceilings import Ceilings
from memlight.analyses.sequence.experiment import Array, Experiment, joined, over_members, spread
from memlight.sequences.measures import appearances_at_saturation, maximum_learned_rank
from memlight.storage.tables import Table

MOST_BINS = 40
"""Groups of neighbouring ranks in a heat map."""

UNEVEN = 3.0
"""Ranks are drawn unevenly where the first test sequence appears so many times as often as the middle one."""


def ranks_table(
    experiments: Sequence[Experiment], ceilings: Sequence[Sequence[Ceilings]], *, grouped: bool = False
) -> Table:
    """Every test sequence at the end of its set's own training: columns ``RANKS``.

    ``saturated`` is the share of members that got more than 90 % of its bits right at some evaluation, and
    ``appearances_at_saturation`` how often it had been drawn at the first such one, over those members.

    Args:
        experiments: the experiments.
        ceilings: of every set of each.
        grouped: take the mean over neighbouring ranks, at most `MOST_BINS` groups; ``rank`` is the middle of each.
    """
    blocks = []
    for experiment, of_experiment in zip(experiments, ceilings, strict=True):
        found = experiment.results
        uneven = drawn_unevenly(experiment)
        groups = rank_groups(found.test_rank, logarithmic=uneven) if grouped else None
        for index, phase in experiment.phases():
            tested, drawn = (values[:, index][:, phase] for values in (found.test_accuracy, found.test_appearances))
            needed = appearances_at_saturation(tested, drawn)
            blocks.append(
                {
                    "run": experiment.name,
                    "set": index,
                    "rank": _merged(found.test_rank, groups),
                    "appearances": over_members(_merged(drawn[:, -1], groups))[0],
                    **spread("accuracy", _merged(tested[:, -1], groups)),
                    **spread("loss", _merged(found.test_loss[:, index, phase[-1]], groups)),
                    "ceiling": _merged(of_experiment[index].by_rank_R, groups),
                    "saturated": _merged(np.isfinite(needed).mean(axis=0), groups),
                    **spread("appearances_at_saturation", _merged(needed, groups)),
                }
            )
    return joined(columns.RANKS, blocks)


def appearances_table(experiments: Sequence[Experiment]) -> Table:
    """Accuracy against appearances in a set's own training, sequences of all ranks together: columns ``APPEARANCES``.

    A bin holds 0, 1, 2 to 3, 4 to 7, ... appearances; ``appearances`` is the mean in it, ``sequences`` how many
    (sequence, evaluation) pairs a member has in it.
    """
    blocks = []
    for experiment in experiments:
        found = experiment.results
        for index, phase in experiment.phases():
            drawn = found.test_appearances[:, index][:, phase].reshape(experiment.members, -1)
            right = found.test_accuracy[:, index][:, phase].reshape(experiment.members, -1)
            if not np.isfinite(drawn).any():
                continue
            bins = np.where(drawn > 0, np.floor(np.log2(np.maximum(drawn, 1))) + 1, 0)
            for bin_ in np.unique(bins[np.isfinite(drawn)]):
                inside = (bins == bin_) & np.isfinite(drawn)
                blocks.append(
                    {
                        "run": experiment.name,
                        "set": index,
                        "appearances": drawn[inside].mean(),
                        **spread("accuracy", _mean_where(right, inside)[:, None]),
                        "sequences": inside.sum() / experiment.members,
                    }
                )
    return joined(columns.APPEARANCES, blocks)


def rank_time_table(experiment: Experiment) -> Table:
    """Accuracy of groups of neighbouring ranks at every evaluation of every set: columns ``RANK_TIME``.

    At most `MOST_BINS` groups: of equal size, or of equal size on a logarithmic scale where low ranks are drawn more.
    """
    found, blocks = experiment.results, []
    groups = rank_groups(found.test_rank, logarithmic=drawn_unevenly(experiment))
    for index in range(experiment.sets):
        at = experiment.seen(index)
        for rows in groups:
            accuracy = found.test_accuracy[:, index][:, at][..., rows].mean(axis=-1)
            ends = {"rank_low": found.test_rank[rows[0]], "rank_high": found.test_rank[rows[-1]]}
            blocks.append({"set": index, "step": found.eval_steps[at], **ends, **spread("accuracy", accuracy)})
    return joined(columns.RANK_TIME, blocks)


def learned_table(experiments: Sequence[Experiment]) -> Table:
    """The highest rank that is learned, at every evaluation of every set: columns ``LEARNED``; -1 is none."""
    blocks = []
    for experiment in experiments:
        found = experiment.results
        for index in range(experiment.sets) if len(found.test_rank) else ():
            at = experiment.seen(index)
            highest = maximum_learned_rank(found.test_accuracy[:, index][:, at], found.test_rank)
            steps = found.eval_steps[at]
            blocks.append({"run": experiment.name, "set": index, "step": steps, **spread("max_rank", highest)})
    return joined(columns.LEARNED, blocks)


def drawn_unevenly(experiment: Experiment) -> bool:
    """Whether the first test sequence of the first set was drawn far more often than the middle one."""
    drawn = experiment.results.test_appearances[:, 0]
    drawn = drawn[:, experiment.phase(0)[-1:]].mean(axis=(0, 1))
    return bool(len(drawn) and drawn[0] > UNEVEN * max(float(np.median(drawn)), 1.0))


def rank_groups(ranks: Array, *, logarithmic: bool) -> list[Array]:
    """Positions of ``(R,)`` ascending ranks in at most `MOST_BINS` groups, without empty ones."""
    if not len(ranks):
        return []
    place = np.log(np.arange(len(ranks)) + 1) if logarithmic else np.arange(len(ranks)).astype(np.float64)
    bins = np.minimum((place / max(place[-1], 1e-9) * min(MOST_BINS, len(ranks))).astype(int), MOST_BINS - 1)
    return [np.flatnonzero(bins == bin_) for bin_ in np.unique(bins)]


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
